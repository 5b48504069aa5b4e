"""How `cascade serve` refuses to start: one clear line on stderr and the right exit code, without a traceback."""

import subprocess
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cascade.cli import app
from cascade.errors import DependencyError
from cascade.serve import device
from cascade.serve.endpoint import Endpoint
from tests.serve.conftest import COMMAND, environment


def serve(tmp_path, *arguments):
    """Runs the real command; it must fail with exit code 1 and one line beside the log. Returns that line."""
    result = subprocess.run(
        [*COMMAND, "serve", *arguments], capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment()
    )
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("{"))
    assert line.startswith("cascade: ")
    return line


def usage_error(*arguments, **variables):
    """Calls the command in this process; it must find the usage wrong. Returns what it says."""
    result = CliRunner().invoke(app, ["serve", *arguments], env={"COLUMNS": "500", **variables})
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr


def test_a_port_in_use(served, tmp_path):
    line = serve(tmp_path, "--port", str(served.port))
    assert f"127.0.0.1:{served.port}" in line
    assert "in use" in line
    assert "--port" in line
    line = serve(tmp_path, "--port", "0", "--metrics-port", str(served.port))
    assert f"metrics on 127.0.0.1:{served.port}" in line


def test_an_address_of_another_machine(tmp_path):
    line = serve(tmp_path, "--port", "0", "--host", "192.0.2.1", "--insecure-public")
    assert "192.0.2.1" in line
    assert "--host" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_public_address_needs_a_word(host):
    assert "TLS" in usage_error("--host", host)
    assert "--insecure-public" in usage_error(CASCADE_HOST=host)


@pytest.mark.parametrize(
    ("host", "public", "address"),
    [
        ("127.0.0.1", False, "127.0.0.1:5"),
        ("127.8.8.8", False, "127.8.8.8:5"),
        ("localhost", False, "localhost:5"),
        ("::1", False, "[::1]:5"),
        ("::", True, "[::]:5"),
        ("10.0.0.1", True, "10.0.0.1:5"),
        ("cascade.internal", True, "cascade.internal:5"),
    ],
)
def test_endpoints(host, public, address):
    endpoint = Endpoint(host, 0, None, 1.0)
    assert (endpoint.is_public, endpoint.address(5)) == (public, address)


def test_gpu_fails_in_words(tmp_path):
    line = serve(tmp_path, "--gpu")
    assert "this release" in line
    assert "PyTorch" in line
    assert "Leave --gpu out" in line


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (None, "PyTorch is not installed"),
        (0, "sees no CUDA device"),
        (1, "sees 1 CUDA device."),
        (8, "8 CUDA devices."),
    ],
)
def test_gpu_says_what_is_missing(monkeypatch, devices, said):
    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: devices))
    monkeypatch.setattr(device, "find_spec", lambda name: None if devices is None else object())
    monkeypatch.setattr(device, "import_module", {"torch": torch}.get)
    with pytest.raises(DependencyError, match=said):
        device.refuse_gpu()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--device", "cuda"], "cpu"),
        (["--runtime", "torch"], "onnxruntime"),
        (["--port", "65536"], "65535"),
        (["--threads", "0"], "--threads"),
        (["--max-queue", "0"], "--max-queue"),
        (["--workers", "2"], "--workers"),
    ],
)
def test_wrong_usage(arguments, word):
    assert word in usage_error(*arguments)


def test_models_and_policies_that_cannot_be_used(tmp_path):
    bad = tmp_path / "policy.toml"
    bad.write_text('schema = 1\nname = "x"\n[stage1]\nunsafe = 3\n')
    assert "stage1.unsafe" in serve(tmp_path, "--port", "0", "--policy", str(bad))
    assert "no-model" in serve(tmp_path, "--port", "0", "--stage1", str(tmp_path / "no-model"))
