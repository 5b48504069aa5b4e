"""The process of a hosted stage: started, watched, started again, and gone when its parent is."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from cascade.errors import CascadeError, ModelError, StageError, StageUnavailableError
from cascade.serve import stage_host
from cascade.serve.stage_host import HostedStage, StageHost
from stages.registry import load_stage
from tests.serve.conftest import environment

FAKE = str(Path(__file__).parent / "fake_stage_process.py")
PARENT = """
import sys, time
from tests.serve.test_gpu_host import FakeHosted
from cascade.serve.stage_host import StageHost
host = StageHost(FakeHosted("hazard", threads=1))
host.open()
print(host.pid, flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class FakeHosted(HostedStage):
    """The same command with the fake for its program."""

    def command(self, address):
        _, _, _, *options = super().command(address)
        return [sys.executable, FAKE, *options]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])


@pytest.fixture
def hosting():
    """Opens hosts of fakes and stops them: ``hosting(spec)``."""
    hosts = []

    def host(spec="hazard"):
        hosts.append(StageHost(FakeHosted(spec, threads=1)))
        return hosts[-1]

    yield host
    for started in hosts:
        started.stop()


def alive(pid):
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid, seconds=20):
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_a_hosted_stage_scores_is_killed_and_comes_back(hosting, capfd):
    host, changes, back = hosting(), [], threading.Event()

    def on_change(serving):
        changes.append(serving)
        if serving:
            back.set()

    host.on_change = on_change
    stage, here = host.open(), load_stage("hazard")
    windows = stage.encode("Is the kettle still on?").windows
    expected = [scores.unsafe for scores in here.score(windows)]
    assert [scores.unsafe for scores in stage.score(windows)] == expected
    assert capfd.readouterr().out == ""  # stdout is the server's
    before = host.pid
    os.kill(before, signal.SIGKILL)
    assert gone(before)
    with pytest.raises(StageUnavailableError):
        stage.score(windows)
    assert back.wait(60)
    assert changes == [False, True]
    assert host.pid != before
    assert [scores.unsafe for scores in stage.score(windows)] == expected
    last = host.pid
    host.stop()
    assert gone(last)
    assert changes == [False, True], "an end that was asked for is no fault"


def test_a_stage_that_hangs_is_killed_and_started_again(hosting):
    host, back = hosting(), threading.Event()
    stage, before = host.open(), host.pid
    host.on_change = lambda serving: back.set() if serving else None
    os.kill(before, signal.SIGSTOP)
    stage._timeout_s = 0.3
    windows = stage.encode("Is the kettle still on?").windows
    with pytest.raises(StageError, match="no answer"):
        stage.score(windows)
    assert back.wait(60)
    assert gone(before)
    stage._timeout_s = 60
    assert len(stage.score(windows)) == 1


@pytest.mark.parametrize(
    ("spec", "kind", "said"),
    [
        ("refuses", ModelError, "this model is no good"),
        ("dies", StageError, "ended with code 7 before it was ready"),
        ("raises", CascadeError, "RuntimeError"),
    ],
)
def test_a_stage_that_cannot_start_says_why(hosting, spec, kind, said):
    with pytest.raises(kind, match=said) as caught:
        hosting(spec).open()
    assert "somebody" not in str(caught.value)


def test_a_server_with_thousands_of_connections_starts_a_stage_all_the_same(hosting):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.callback(os.close, os.dup(0))
        with pytest.raises(ModelError, match="this model is no good"):
            hosting("refuses").open()


def test_a_stage_that_never_gets_ready_is_given_up(hosting, monkeypatch):
    monkeypatch.setattr(stage_host, "LOAD_S", 0.5)
    with pytest.raises(StageError, match="not ready within"):
        hosting("sleeps").open()


def test_starting_again_is_tried_again(hosting, monkeypatch):
    host, back = hosting(), threading.Event()
    host.open()
    host.on_change = lambda serving: back.set() if serving else None
    monkeypatch.setattr(stage_host, "BACKOFF_S", (0.1, 0.2))
    specs = iter(["dies", "refuses"])
    command = type(host.hosted).command

    def sometimes(self, address):
        return command(FakeHosted(next(specs, "hazard"), threads=1), address)

    monkeypatch.setattr(FakeHosted, "command", sometimes)
    os.kill(host.pid, signal.SIGKILL)
    assert back.wait(90)
    assert next(specs, None) is None, "both bad starts were tried"


def test_the_process_goes_with_a_parent_that_was_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()
    )
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.communicate()
    assert gone(pid)


def test_the_command_names_everything():
    adapters = {"a": Path("/x"), "b": Path("/y")}
    hosted = HostedStage("m", 3, device="cuda:1", adapters=adapters, memory_mb=9, dtype="float32")
    words = hosted.command("unix:/s")
    assert words[1:3] == ["-m", "cascade.serve.stage_process"]
    assert words[-2:] == ["--adapter=a=/x", "--adapter=b=/y"]
    assert dict(pairwise(words)).items() >= {
        "--spec": "m", "--listen": "unix:/s", "--device": "cuda:1", "--threads": "3", "--memory-mb": "9",
        "--batch-tokens": "16384", "--dtype": "float32",
    }.items()  # fmt: skip
