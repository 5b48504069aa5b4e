"""The real command, which pushes to a collector of ours and has all that can be observed switched on."""

import re
from importlib import resources
from types import SimpleNamespace

import pytest

from tests.observe.collector import Collector
from tests.serve.conftest import COMMAND, ServerProcess

REFERENCE = "\n[reference]\nrows = 1000\nescalated = 0.2\n\n[reference.stage1]\n" + "".join(
    f"p{tenth}0 = 0.{tenth}\n" for tenth in range(1, 10)
)


@pytest.fixture(scope="session")
def observed(tmp_path_factory):
    """The server, and what the collector has got from it: ``observed.server``, ``observed.collector``."""
    folder = tmp_path_factory.mktemp("observed")
    policy = folder / "policy.toml"
    text = resources.files("cascade.policy").joinpath("default.toml").read_text()
    policy.write_text(re.sub(r"(?ms)^\[certificate.*|^\[reference.*?(?=^\[(?!reference)|\Z)", "", text) + REFERENCE)
    collector = Collector()
    flags = ["--metrics-port", "0", "--access-log", "--audit-log", "audit.jsonl", "--policy", "policy.toml"]
    command = [*COMMAND, "serve", "--port", "0", "--http-port", "0", "--otel-endpoint", collector.endpoint, *flags]
    server = ServerProcess(command, folder, OTEL_BSP_SCHEDULE_DELAY="100", OTEL_SERVICE_NAME="cascade-under-test")
    yield SimpleNamespace(server=server, collector=collector)
    server.close()
    collector.close()
