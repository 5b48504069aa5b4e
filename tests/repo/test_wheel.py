"""The wheel holds exactly the three packages with the weights, and serves away from the checkout."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cascade.v1 import cascade_service_pb2_grpc, check_pb2
from tests.repo.modules import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (built,) = folder.glob("safety_cascade-*.whl")
    return built


def pip(*arguments: str) -> None:
    """Runs this environment's pip; its complaint becomes the test's."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_packages_the_weights_and_the_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert {name.split("/")[0] for name in names} == {"cascade", "stages", "training", info}
    weights = {str(path.relative_to(ROOT)) for path in (ROOT / "stages/weights").rglob("*") if path.is_file()}
    assert any(name.endswith(".onnx") for name in weights)
    assert weights <= set(names)
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "cascade/gateways/console/page").iterdir()}
    assert page <= set(names)
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/stages/weights/LICENSE", "cascade/py.typed"} <= set(names)


def test_the_wheel_serves_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env/bin/python"
    pip("--python", str(python), "install", "--no-compile", "--constraint", str(ROOT / "constraints.txt"), str(wheel))
    probe = "import cascade; from importlib.util import find_spec as spec; "
    probe += "print(cascade.__file__, spec('torch'), spec('transformers'))"
    done = subprocess.run([python, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True)
    seen = done.stdout.split()
    assert seen[0].startswith(str(tmp_path))
    assert seen[1:] == ["None", "None"]

    with served(tmp_path) as address, grpc.insecure_channel(address) as channel:
        request = check_pb2.CheckRequest(request_id="wheel", text="How do I bake bread with rye flour?")
        response = cascade_service_pb2_grpc.CascadeServiceStub(channel).Check(request, timeout=30)
    assert response.request_id == "wheel"
    assert response.verdict == check_pb2.VERDICT_SAFE
    assert response.coverage.tokens_scored == response.coverage.tokens_total > 0
    assert [stage.name for stage in response.stages]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Starts the installed command on a free port, gives its address, and stops it as a supervisor would."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CASCADE_", "PYTHON"))}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [folder / "env/bin/cascade", "serve", "--port", "0"],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert server.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(server.stdout.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=60)
        match = re.match(r"ready grpc=(\S+) .*stage1=tinysafe@\S+ stage2=hazard@\S+$", line)
        assert match, f"{line!r}; log: {(folder / 'log').read_text()[-2000:]}"
        yield match[1]
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
        assert server.stdout.read() == ""
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
