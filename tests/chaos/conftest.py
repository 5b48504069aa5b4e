"""Servers of fakes that many tests attack, and that have to be whole after each of them."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cascade.v1.check_pb2 import VERDICT_UNSAFE, CheckRequest
from tests.serve.calling import stubs
from tests.serve.conftest import FAKE_SERVER, ServerProcess
from tests.serve.test_observability import samples

ROUNDS = int(os.environ.get("ROUNDS", "1"))  # how often the faults of a test come; `make chaos` has more of them


def in_flight(server):
    return sum(value for key, value in samples(server).items() if key[0] == "cascade_requests_in_flight")


def is_whole(server, seconds=60):
    """The server answers as ever, nothing is left of what was under way, and nothing was its fault."""
    answer = stubs(server.channel).cascade.Check(CheckRequest(text="a terrible thing"), timeout=seconds)
    assert answer.verdict == VERDICT_UNSAFE
    deadline = time.monotonic() + seconds
    while in_flight(server):
        assert time.monotonic() < deadline, "calls whose callers are gone are still under way"
        time.sleep(0.02)
    assert '"level": "error"' not in server.log.read_text()


@pytest.fixture(scope="session")
def attacked(tmp_path_factory):
    server = ServerProcess([*FAKE_SERVER, "--slow", "0.5"], tmp_path_factory.mktemp("attacked"))
    yield server
    server.close()


@pytest.fixture
def whole(attacked):
    yield attacked
    is_whole(attacked)


@dataclass(frozen=True)
class Crew:
    """A server with two workers, and its audit log."""

    server: ServerProcess
    audit: Path

    @property
    def address(self):
        return f"127.0.0.1:{self.server.port}"

    def logged(self, message):
        """How often the server has said so."""
        return self.server.log.read_text().count(f'"message": "{message}"')

    def kept(self):
        """Ids of the calls that were answered and are in the audit log, of which all lines are whole."""
        records = [json.loads(line) for line in self.audit.read_text().splitlines()]
        return {record["id"] for record in records if record["code"] == "OK"}


@pytest.fixture(scope="session")
def crew(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crew")
    audit = folder / "audit.jsonl"
    options = ["--workers", "2", "--delay", "0.02", "--audit", str(audit)]
    server = ServerProcess([*FAKE_SERVER, *options], folder)
    yield Crew(server, audit)
    server.close()
