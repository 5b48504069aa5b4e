"""The clients in clients/ against the real command, by the vectors that all of them share.

`make clients` builds and tests all of them; here are those whose toolchain `make test` brings along or may find.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "clients/python"
TYPESCRIPT = ROOT / "clients/typescript"


def files(folder):
    """The contents of the files in a folder, by path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_python_and_typescript(tmp_path):
    environment = os.environ | {"CASCADE_TEST_PYTHON": sys.executable}
    command = [sys.executable, ROOT / "clients/run", "python", "typescript"]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    python, typescript = done.stdout.splitlines()[-2:]
    assert python.startswith("python: passed in ")
    if typescript.startswith("typescript: skipped: "):
        pytest.skip(f"python passed; {typescript}")
    assert typescript.startswith("typescript: passed in ")

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
import sys, time
if sys.argv[1] == "token":
    print("a-token")
else:
    print("ready grpc=127.0.0.1:1 stage1=a@b stage2=none", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("scripts", "status"),
    [
        ({"good": 'test -n "$1" -a -r "$CASCADE_TEST_CA"', "bad": "exit 3", "none": "echo no compiler; exit 77"}, 1),
        ({"good": "exit 0", "none": "echo no compiler; exit 77"}, 0),
        ({"none": "echo no compiler; exit 77"}, 1),  # nothing was tested
    ],
)
def test_the_runner_tells_who_failed_and_who_was_skipped(scripts, status, tmp_path):
    (tmp_path / "cascade").mkdir()
    (tmp_path / "cascade/cli.py").write_text(CASCADE)
    for language, script in scripts.items():
        path = tmp_path / "clients" / language / "run-tests"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    runner = tmp_path / "clients/run"
    runner.write_bytes((ROOT / "clients/run").read_bytes())
    done = subprocess.run([sys.executable, runner], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines()[-len(scripts) :])
    assert told.pop("none") == "skipped: no compiler"
    assert {language: line.rpartition(" in ")[0] for language, line in told.items()} == {
        language: "FAILED with 3" if language == "bad" else "passed" for language in scripts if language != "none"
    }
