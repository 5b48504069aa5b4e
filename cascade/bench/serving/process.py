"""A server in a process of its own, pinned to some cores: *command* -> what it printed, CPU seconds, memory.

Affinity is inherited: the thread that starts a process takes on the cores that it is to have, and goes back to its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError, DependencyError

STOP_S = 20.0


class ServerFailedError(CascadeError):
    """A server that the benchmark started did not come up, or ended."""

    reason = "SERVER_FAILED"


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the server has, and which are left to the load; both None where all share all."""

    server: frozenset[int] | None
    load: frozenset[int] | None


def share_cores(server: int = 1) -> Cores:
    """The first ``server`` usable cores for the server, the others for the load; with too few, all for both."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(usable) <= server:
        return Cores(None, None)
    return Cores(frozenset(usable[:server]), frozenset(usable[server:]))


@contextmanager
def on_cores(cores: frozenset[int] | None) -> Iterator[None]:
    """This thread, and what it starts, on some cores."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def keep_to(cores: frozenset[int] | None) -> None:
    """All threads of this process on some cores, and so those that they start."""
    if cores is None:
        return
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), cores)
        except ProcessLookupError:
            continue  # it has just ended


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and megabytes now, of a process and all that it started."""

    cpu_s: float
    memory_mb: float


class Server:
    """A process and its children."""

    def __init__(self, pid: int) -> None:
        """Takes the process with this id.

        Raises:
            DependencyError: psutil is missing.
            ServerFailedError: there is no such process.
        """
        try:
            import psutil
        except ImportError as error:
            raise DependencyError('psutil is missing: pip install "safety-cascade[bench]"') from error
        self._psutil = psutil
        try:
            self._root = psutil.Process(pid)
        except psutil.NoSuchProcess as error:
            raise ServerFailedError(f"no process {pid}") from error

    def usage(self) -> Usage:
        """What it has used. Memory is proportional (PSS): what processes share counts once."""
        cpu = memory = 0.0
        for process in self.family():
            try:
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_full_info().pss / 1e6
            except self._psutil.NoSuchProcess:
                continue  # it has just ended
            except self._psutil.AccessDenied:
                memory += process.memory_info().rss / 1e6
        return Usage(round(cpu, 3), round(memory, 1))

    def family(self) -> list[Any]:
        """The process and all that it started, as psutil knows them."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except self._psutil.NoSuchProcess:
            return []

    def kill(self, family: Sequence[Any]) -> None:
        """Ends what is left of a family at once."""
        for process in family:
            try:
                process.kill()
            except self._psutil.NoSuchProcess:
                continue


@dataclass(frozen=True, slots=True)
class Started:
    """A running server; ``ready_line`` is what it said on stdout when that was asked for."""

    server: Server
    process: subprocess.Popen[str]
    ready_line: str

    def check(self, log: Path) -> None:
        """Raises ServerFailedError with the end of its log if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise ServerFailedError(f"the server ended with {code}: {tail(log)}")


@asynccontextmanager
async def started(
    command: Sequence[str],
    log: Path,
    cores: frozenset[int] | None,
    *,
    ready: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    within_s: float = 120.0,
) -> AsyncIterator[Started]:
    """A server; waits for the line on stdout that begins with ``ready``, if one is named, and stops it in the end.

    Raises:
        ServerFailedError: it ended, or did not say so in time.
    """
    with log.open("w", encoding="utf-8") as stderr, on_cores(cores):
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet, and the affinity is this thread's
            list(command),
            stdout=subprocess.PIPE if ready else stderr,
            stderr=stderr,
            text=True,
            env=dict(environment) if environment is not None else None,
            cwd=folder,
            start_new_session=True,
        )
    server = Server(process.pid)
    try:
        line = await _ready_line(process, ready, log, within_s) if ready else ""
        yield Started(server, process, line)
    finally:
        await asyncio.to_thread(_stop, process, server)


async def _ready_line(process: subprocess.Popen[str], ready: str, log: Path, within_s: float) -> str:
    assert process.stdout is not None, "it was asked for as a pipe"
    try:
        async with asyncio.timeout(within_s):
            line = await asyncio.to_thread(process.stdout.readline)
    except TimeoutError as error:
        raise ServerFailedError(f"the server did not start within {within_s:g} s: {tail(log)}") from error
    if not line.startswith(ready):
        raise ServerFailedError(f"the server did not start: {tail(log)}")
    return line.strip()


def tail(log: Path) -> str:
    """The last lines of a log, as one."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(lines[-3:])[-500:] or "it said nothing"


def _stop(process: subprocess.Popen[str], server: Server) -> None:
    """SIGTERM to the first process; what is then left of those that it had started gets SIGKILL."""
    family = server.family()
    if process.poll() is None:
        process.terminate()
        until = time.monotonic() + STOP_S
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
    server.kill(family)
    process.wait()
    if process.stdout:
        process.stdout.close()
