"""CPU seconds of a process and all that it has started, by what they are: looked at now and then, since they end."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

import psutil

from tests.ray import cluster

# What stands in a process' title or command -> what it is called here. The first that fits counts.
ROLES = {
    "ProxyActor": "proxy",
    "ServeReplica:cascade:Cascade": "ingress",
    "ServeReplica:cascade:Stage2": "stage 2",
    "MapWorker": "workers",
    "gcs_server": "cluster",
    "raylet": "cluster",
    "ray::": "other actors",
}
LOOK_S = 0.1


class Usage:
    """Counts while its block runs; afterwards ``seconds`` has what each kind of process used in it.

    A process that lives shorter than :data:`LOOK_S`, and the last tenth of a second of one that ends, may be missed.
    """

    def __init__(self, pid: int) -> None:
        self.seconds: Counter[str] = Counter()
        self._root = psutil.Process(pid)
        self._first: dict[int, float] = {}
        self._last: dict[int, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._first = {pid: used for pid, (_, used) in self._last.items()}
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        for pid, (role, used) in self._last.items():
            self.seconds[role] += used - self._first.get(pid, 0.0)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        for process in (self._root, *cluster.children(self._root)):
            try:
                role = "the command" if process == self._root else role_of(" ".join(process.cmdline()))
                times = process.cpu_times()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            self._last[process.pid] = role, times.user + times.system


def role_of(title: str) -> str:
    """What a process is, by its title."""
    return next((role for mark, role in ROLES.items() if mark in title), "other processes")
