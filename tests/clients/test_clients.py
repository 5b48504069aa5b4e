"""The clients in clients/ against the real command, by the vectors that all of them share.

Each is skipped where its toolchain is missing. `.ci/run` installs those of the compiled ones where it can.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "clients/run"
PYTHON = ROOT / "clients/python"
TYPESCRIPT = ROOT / "clients/typescript"


def files(folder):
    """The contents of the files in a folder, by path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def started(*command, **options):
    """A command that is told to end when the test ends, however that is."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.terminate()


def assert_passes(language, **environment):
    """Builds and tests one client."""
    runner = started(sys.executable, RUN, language, env=os.environ | environment, stderr=subprocess.STDOUT)
    with runner as process:
        output, _ = process.communicate()
    result = (output.splitlines() or [""])[-1]
    if result.startswith(f"{language}: skipped: "):
        pytest.skip(result)
    assert process.returncode == 0, output
    assert result.startswith(f"{language}: passed in ")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("language", ["go", "java", "cpp"])
def test_compiled(language):
    assert_passes(language)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_python():
    assert_passes("python", CASCADE_TEST_PYTHON=sys.executable)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_typescript(tmp_path):
    assert_passes("typescript")
    buf = Path(sys.executable).with_name("buf")  # its plugin has been installed by now
    subprocess.run([buf, "generate", "--output", tmp_path], cwd=TYPESCRIPT, capture_output=True, check=True)
    made, committed = (files(folder / "src/generated") for folder in (tmp_path, TYPESCRIPT))
    assert made == committed, "run make proto-clients"


def test_the_python_client_s_messages_are_what_generate_makes(tmp_path):
    runpy.run_path(str(PYTHON / "generate.py"))["generate"](tmp_path)
    own = {Path("__init__.py"), Path("_pool.py")}
    committed = files(PYTHON / "cascade_client/_proto")
    committed = {
        path: content for path, content in committed.items() if path not in own and "__pycache__" not in path.parts
    }
    assert files(tmp_path) == committed, "run make proto-clients"


@pytest.mark.timeout(300)
def test_the_python_client_is_typed(tmp_path):
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, "cascade_client", "examples"]
    done = subprocess.run(command, cwd=PYTHON, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


CASCADE = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PLAIN = "127.0.0.1:1"  # nobody calls it


def secure():
    import grpc

    check = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("cascade.v1.CascadeService", {"Check": check})]
    )
    key, chain = (Path(sys.argv[sys.argv.index(option) + 1]).read_bytes() for option in ("--tls-key", "--tls-cert"))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
    server.start()
    return server, f"127.0.0.1:{port}"


if sys.argv[1] == "token":
    print("a-token")
else:
    server, address = secure() if "--tls-cert" in sys.argv else (None, PLAIN)
    Path(__file__).with_name(f"{os.getpid()}.server").touch()
    print(f"ready grpc={address} stage1=a@b stage2=none", flush=True)
    signal.pause()
"""


@pytest.fixture
def runner(tmp_path):
    """Gives the runner clients with these scripts for `run-tests`, and servers that judge nothing."""

    def made(**scripts):
        (tmp_path / "cascade").mkdir()
        (tmp_path / "cascade/__init__.py").touch()  # without it the real package would come first
        (tmp_path / "cascade/cli.py").write_text(CASCADE)
        for language, script in scripts.items():
            path = tmp_path / "clients" / language / "run-tests"
            path.parent.mkdir(parents=True)
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        path = tmp_path / "clients/run"
        path.write_bytes(RUN.read_bytes())
        return path

    return made


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("scripts", "status"),
    [
        ({"good": 'test -n "$1" -a -r "$CASCADE_TEST_CA"', "bad": "exit 3", "none": "echo no compiler; exit 77"}, 1),
        ({"good": "exit 0", "none": "echo no compiler; exit 77"}, 0),
        ({"none": "echo no compiler; exit 77"}, 1),  # nothing was tested
    ],
)
def test_the_runner_tells_who_failed_and_who_was_skipped(scripts, status, runner, tmp_path):
    command = [sys.executable, runner(**scripts)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines()[-len(scripts) :])
    assert told.pop("none") == "skipped: no compiler"
    assert {language: line.rpartition(" in ")[0] for language, line in told.items()} == {
        language: "FAILED with 3" if language == "bad" else "passed" for language in scripts if language != "none"
    }


# Its child holds stderr, which the tests read to its end: they go on only when it is gone, too.
HANGS = "echo hanging; sleep 600 >/dev/null & wait"


def gone(folder):
    """Whether the servers that the runner had started are no more, both of which have left a file."""
    servers = [path.stem for path in (folder / "cascade").glob("*.server")]
    return len(servers) == 2 and not any(Path("/proc", server).exists() for server in servers)


@pytest.mark.timeout(300)
def test_a_client_that_hangs_is_ended(runner, tmp_path):
    command = [sys.executable, runner(slow=HANGS), "--limit", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("slow: FAILED with -9 ")
    assert gone(tmp_path)


@pytest.mark.timeout(300)
def test_a_runner_that_is_ended_leaves_nothing_behind(runner, tmp_path):
    with started(sys.executable, runner(slow=HANGS), cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "--- slow\n"
        assert process.stdout.readline() == "hanging\n"
        process.terminate()
        assert process.stderr.read() == ""
        assert process.wait() == 128 + signal.SIGTERM
    assert gone(tmp_path)


@pytest.mark.parametrize("client", ["cpp", "go", "java", "python", "typescript"])
def test_each_client_has_the_licence_that_it_declares(client):
    assert (ROOT / "clients" / client / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.timeout(300)
def test_the_python_client_s_wheel_has_its_licence(tmp_path):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", tmp_path, PYTHON]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {"cascade_client/py.typed", "cascade_client/_proto/cascade.binpb"} <= set(names)
