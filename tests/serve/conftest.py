"""Servers in processes of their own: the real command, and one whose models are slow or broken on request."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests.serve.calling import stubs
from tests.serve.load import connect

ROOT = Path(__file__).parents[2]
READY = re.compile(
    r"ready grpc=(127\.0\.0\.1|0\.0\.0\.0):(?P<port>\d+)"
    r"( http=(127\.0\.0\.1|0\.0\.0\.0):(?P<http>\d+))?( metrics=127\.0\.0\.1:(?P<metrics>\d+))? "
    r"stage1=(?P<stage1>\S+@\S+) stage2=(?P<stage2>none|\S+@\S+)"
)
FAKE_SERVER = [sys.executable, str(Path(__file__).parent / "fake_server.py")]
COMMAND = [sys.executable, "-m", "cascade.cli"]


def environment(**variables):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("CASCADE_", "GRPC_"))}
    return own | {"PYTHONPATH": str(ROOT)} | variables


def start(command, folder, stderr, **variables):
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder, env=environment(**variables)
    )


def whole_lines(path):
    """The JSON lines of a file that somebody may be writing to: half a line at its end is not one yet."""
    return [json.loads(line) for line in path.read_text().rpartition("\n")[0].splitlines()]


class ServerProcess:
    """A server in a subprocess; its stdout and stderr are kept for a look afterwards."""

    def __init__(self, command, folder, seconds=90, credentials=None, **variables):
        self.log = folder / "stderr.log"
        with self.log.open("w") as stderr:
            self.process = start(command, folder, stderr, **variables)
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        self.first_line = self.process.stdout.readline()
        timer.cancel()
        self.ready = READY.fullmatch(self.first_line.rstrip("\n"))
        if not self.ready:
            self.kill()
            raise AssertionError(f"not ready: {self.first_line!r}\n{self.log.read_text()}")
        self.port = int(self.ready["port"])
        self.metrics_port, self.http_port = self.ready["metrics"], self.ready["http"]
        where = f"127.0.0.1:{self.port}"
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        if credentials is None:
            self.channel = grpc.insecure_channel(where, options)
        else:
            self.channel = grpc.secure_channel(where, credentials, options)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds=30):
        """Waits for the end; returns the exit code and what came on stdout after the ready line."""
        rest, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, rest

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def close(self):
        """Ends the server if a test has not: every server stops with 0 and has said one line on stdout."""
        self.channel.close()
        if self.process.returncode is None:
            self.terminate()
            try:
                assert self.wait() == (0, "")
            finally:
                self.kill()


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The real command with the embedded models, as many tests share it."""
    folder = tmp_path_factory.mktemp("serve")
    command = [*COMMAND, "serve", "--port", "0", "--metrics-port", "0", "--log-level", "debug"]
    server = ServerProcess(command, folder)
    yield server
    server.close()
    assert '"level": "error"' not in server.log.read_text(), "nothing that the tests send is a bug of the server"


class Everywhere:
    """Calls over so many connections that some lead to each worker: ``everywhere(server)`` -> stubs."""

    def __init__(self, stack):
        self._stack = stack
        self.channels = []

    def __call__(self, server):
        self.channels = [self._stack.enter_context(connect(server.port)) for _ in range(12)]
        return [stubs(channel) for channel in self.channels]


@pytest.fixture
def everywhere():
    with ExitStack() as stack:
        yield Everywhere(stack)


@pytest.fixture
def fake_server(tmp_path):
    """Starts servers with fake models: ``fake_server(delay=0.5)`` and so on, see fake_server.py."""
    started = []

    def start(**options):
        arguments = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        folder = tmp_path / f"server{len(started)}"
        folder.mkdir()
        started.append(ServerProcess([*FAKE_SERVER, *arguments], folder))
        return started[-1]

    yield start
    for server in started:
        server.close()
