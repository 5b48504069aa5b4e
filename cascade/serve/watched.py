"""*files* -> value, made anew when they have changed. A bad file never replaces a good one.

Nothing runs in the background: whoever asks for the value has a look at the files, at most once in a while. That costs
a few microseconds, and cannot die unseen.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from cascade.errors import CascadeError

Value = TypeVar("Value")
Look = tuple[tuple[int, ...] | None, ...]

log = logging.getLogger(__name__)


class Watched(Generic[Value]):
    """What some files say; safe to ask from any thread.

    Args:
        what: what they are, for the log.
        paths: the files. Those behind a symbolic link count, so that a Kubernetes secret's swap is seen.
        load: makes the value. What it raises at first is raised; later it is logged, and the value stays.
        every_s: the least time between two looks.
    """

    def __init__(self, what: str, paths: Sequence[Path], load: Callable[[], Value], *, every_s: float = 1.0) -> None:
        self._what, self._paths, self._load, self._every_s = what, tuple(paths), load, every_s
        self._lock = threading.Lock()
        self._seen = self._told = self._look()
        self._next = time.monotonic() + every_s
        self._value = load()

    def get(self) -> Value:
        """The value, made anew if the files have changed since the last look."""
        if time.monotonic() >= self._next:
            with self._lock:
                self._refresh()
        return self._value

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._next:  # another thread was first
            return
        self._next = now + self._every_s
        seen = self._look()
        if seen == self._seen:
            return
        try:
            self._value = self._load()
        except CascadeError as error:  # tried again at each look: perhaps the process had no descriptor free
            if seen != self._told:
                fields = {"what": self._what, "reason": error.reason, "error": str(error)}
                log.error("changed files cannot be used; what they said before stays in force", extra=fields)
            self._told = seen
        else:
            log.info("changed files were read again", extra={"what": self._what})
            self._seen = seen  # as it was before they were read: what changed meanwhile is seen at the next look

    def _look(self) -> Look:
        return tuple(_stat(path) for path in self._paths)


def _stat(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does, its permissions included; None if there is none to be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
