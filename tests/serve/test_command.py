"""How `cascade serve` refuses to start: one clear line on stderr and the right exit code, without a traceback."""

import subprocess
from importlib import import_module
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cascade.cli import app
from cascade.cli.security import check_public
from cascade.errors import DependencyError
from cascade.serve import device
from cascade.serve.endpoint import Endpoint
from tests.serve.conftest import COMMAND, environment


def serve(tmp_path, *arguments, seconds=60):
    """Runs the real command; it must fail with exit code 1 and one line beside the log. Returns that line."""
    result = subprocess.run(
        [*COMMAND, "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=tmp_path,
        env=environment(),
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


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_public_metrics_need_a_word(host):
    said = usage_error("--metrics-port", "0", "--metrics-host", host)
    assert "--metrics-host" in said
    assert "--insecure-metrics" in said
    assert "--insecure-metrics" in usage_error(CASCADE_METRICS_PORT="0", CASCADE_METRICS_HOST=host)
    tls = ["--host", "0.0.0.0", "--tls-cert", "c.pem", "--tls-key", "k.pem"]
    assert "--insecure-metrics" in usage_error(*tls, "--metrics-port", "0", "--metrics-host", host), "TLS covers none"


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [("0.0.0.0", None, ()), ("127.0.0.1", 0, ()), ("0.0.0.0", 0, (False, True)), ("0.0.0.0", 0, (True, False))],
)
def test_metrics_are_served_where_nobody_reaches_them_or_somebody_said_so(host, port, words):
    check_public(Endpoint("127.0.0.1", 0, port, 1.0, host), None, *(words or (False, False)))


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


@pytest.mark.timeout(400)
def test_gpu_fails_in_words(tmp_path):
    if import_module("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    line = serve(tmp_path, "--port", "0", "--gpu", seconds=300)  # its process imports torch to look for one
    assert "PyTorch" in line
    assert "no CUDA device" in line
    assert "Leave --gpu" in line


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["torch"], "PyTorch is not installed"),
        (["transformers", "peft"], "transformers and PEFT are not installed"),
        (["torch", "peft", "safetensors"], "PyTorch, PEFT and safetensors are not installed"),
    ],
)
def test_gpu_says_which_packages_are_missing(monkeypatch, missing, said):
    monkeypatch.setattr(device, "find_spec", lambda name: None if name in missing else object())
    with pytest.raises(DependencyError, match=said) as caught:
        device.require_packages("--gpu")
    assert "safety-cascade[gpu]" in str(caught.value)
    assert "Leave --gpu" in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "devices", "said"),
    [
        ("cuda", 0, "sees no CUDA device"),
        ("cuda:1", 1, "sees 1 CUDA device, numbered"),
        ("cuda:8", 8, "sees 8 CUDA devices, numbered"),
    ],
)
def test_gpu_says_which_device_is_missing(monkeypatch, wanted, devices, said):
    torch = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: devices))
    monkeypatch.setattr(device, "find_spec", lambda name: object())
    monkeypatch.setattr(device, "import_module", {"torch": torch}.get)
    with pytest.raises(DependencyError, match=said):
        device.require_device(wanted)
    device.require_device("cpu")
    if devices:
        device.require_device("cuda")
        device.require_device(f"cuda:{devices - 1}")


def test_gpu_memory_is_bounded_as_a_share_of_what_there_is(monkeypatch):
    set_to = []
    cuda = SimpleNamespace(
        get_device_properties=lambda index: SimpleNamespace(total_memory=8192 * 2**20),
        set_per_process_memory_fraction=lambda fraction, index: set_to.append((fraction, index)),
    )
    monkeypatch.setattr(device, "import_module", {"torch": SimpleNamespace(cuda=cuda)}.get)
    device.limit_memory("cuda:1", None)
    device.limit_memory("cuda:1", 2048)
    assert set_to == [(0.25, 1)]
    with pytest.raises(DependencyError, match="cuda:1 has 8192"):
        device.limit_memory("cuda:1", 9000)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--device", "tpu"], "cuda:N"),
        (["--runtime", "tpu"], "onnxruntime"),
        (["--stage1-runtime", "torch"], "openvino"),
        (["--gpu", "--runtime", "openvino"], "--runtime"),
        (["--runtime", "openvino", "--stage2", "none"], "--stage2"),
        (["--device", "cuda", "--runtime", "onnxruntime"], "--runtime"),
        (["--gpu-memory-mb", "100"], "--gpu-memory-mb"),
        (["--adapter", "a=b"], "--runtime torch"),
        (["--dtype", "bfloat16"], "--runtime torch"),
        (["--runtime", "torch", "--dtype", "float16"], "bfloat16"),
        (["--runtime", "torch", "--stage2", "grpcs://gpu.example:1"], "--stage2"),
        (["--runtime", "torch", "--stage2", "none"], "--stage2"),
        (["--runtime", "torch", "--adapter", "a"], "NAME=PATH"),
        (["--runtime", "torch", "--adapter", "a.b=c"], "NAME=PATH"),
        (["--runtime", "torch", "--adapter", "a=b", "--adapter", "a=c"], "two adapters"),
        (["--port", "65536"], "65535"),
        (["--threads", "0"], "--threads"),
        (["--max-queue", "0"], "--max-queue"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_usage(arguments, word):
    assert word in usage_error(*arguments)


def test_models_and_policies_that_cannot_be_used(tmp_path):
    bad = tmp_path / "policy.toml"
    bad.write_text('schema = 1\nname = "x"\n[stage1]\nunsafe = 3\n')
    assert "stage1.unsafe" in serve(tmp_path, "--port", "0", "--policy", str(bad))
    assert "no-model" in serve(tmp_path, "--port", "0", "--stage1", str(tmp_path / "no-model"))
