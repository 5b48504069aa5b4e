"""How `cascade serve` refuses to start: one clear line on stderr and the right exit code, without a traceback."""

import importlib.util
import subprocess

import pytest

from tests.serve.conftest import COMMAND, environment


def serve(tmp_path, *arguments, **variables):
    return subprocess.run(
        [*COMMAND, "serve", *arguments],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment(COLUMNS="400", **variables),
    )  # fmt: skip


def refused(result, code, *words):
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    if code == 1:
        assert [line[:9] for line in result.stderr.splitlines() if not line.startswith("{")] == ["cascade: "]


def test_a_port_in_use(served, tmp_path):
    refused(serve(tmp_path, "--port", str(served.port)), 1, f"127.0.0.1:{served.port}", "in use", "--port")
    refused(serve(tmp_path, "--port", "0", "--metrics-port", str(served.port)), 1, "metrics", str(served.port))


def test_an_address_of_another_machine(tmp_path):
    refused(serve(tmp_path, "--port", "0", "--host", "192.0.2.1", "--insecure-public"), 1, "192.0.2.1", "--host")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_public_address_needs_a_word(tmp_path, host):
    refused(serve(tmp_path, "--host", host), 2, "--insecure-public", "TLS")
    refused(serve(tmp_path, CASCADE_HOST=host), 2, "--insecure-public")


def test_gpu_says_what_is_missing_and_how_to_go_on(tmp_path):
    missing = "PyTorch sees" if importlib.util.find_spec("torch") else "PyTorch is not installed"
    result = serve(tmp_path, "--gpu")
    refused(result, 1, "this release", "Leave --gpu out")
    assert missing in result.stderr or "no CUDA device" in result.stderr


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
def test_wrong_usage(tmp_path, arguments, word):
    refused(serve(tmp_path, *arguments), 2, word)


def test_models_and_policies_that_cannot_be_used(tmp_path):
    bad = tmp_path / "policy.toml"
    bad.write_text('schema = 1\nname = "x"\n[stage1]\nunsafe = 3\n')
    refused(serve(tmp_path, "--port", "0", "--policy", str(bad)), 1, "stage1.unsafe")
    refused(serve(tmp_path, "--port", "0", "--policy", str(tmp_path / "none.toml")), 1, "none.toml")
    refused(serve(tmp_path, "--port", "0", "--stage1", str(tmp_path / "no-model")), 1, "no-model")
