"""*record* -> appended to a file, as safe as was asked for when the call returns. What a record says is not known here.

One thread writes; what came while it was busy goes into one write and one fsync. A record that was taken survives the
death of the process (SIGKILL), since the kernel has it; with ``fsync = always`` that of the machine, too. A line is
whole or not there: what a failed write left behind is cut off again, and so is what a killed process left.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import queue
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from cascade.errors import AuditError, CascadeError

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
MODE = 0o600
BLOCK = 65536
INTERVAL_S = 1.0
MOST_AT_ONCE = 1024  # records of one write

log = logging.getLogger(__name__)


class AuditLog(Protocol):
    """What takes records, in this process or in another one."""

    async def write(self, record: bytes) -> None:
        """Returns when the record, a line without its end, is kept.

        Raises:
            AuditError: it is not.
        """


class Fsync(StrEnum):
    """When the disk, and not only the kernel, must have a record."""

    ALWAYS = "always"  # before the call is answered
    INTERVAL = "interval"  # within a second
    NEVER = "never"  # when the kernel sees fit


@dataclass(frozen=True, slots=True)
class FileSettings:
    """The file, and its upkeep.

    Attributes:
        path: the file. Full ones are renamed to ``PATH.000001`` and so on.
        max_bytes: a file that would grow beyond is full.
        keep: full files that are kept; 0 keeps all.
        fsync: see :class:`Fsync`.
    """

    path: Path
    max_bytes: int = 100_000_000
    keep: int = 0
    fsync: Fsync = Fsync.INTERVAL


class AuditFile:
    """An :class:`AuditLog` in a file, which no other process may write to."""

    def __init__(self, settings: FileSettings) -> None:
        """Opens the file and starts the thread.

        Raises:
            AuditFileError: the file cannot be opened, or another process has it.
        """
        self._settings = settings
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        try:
            self._lock = os.open(_beside(settings.path, "lock"), FLAGS, MODE)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file, self._size = _open(settings.path)
        except BlockingIOError:
            raise AuditFileError(f"{settings.path}: another server writes to it; give each server its own") from None
        except OSError as error:
            raise AuditFileError(f"{settings.path}: cannot be written to: {error.strerror}") from None
        self._failing = self._torn = self._unsynced = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    async def write(self, record: bytes) -> None:
        """See :class:`AuditLog`."""
        loop = asyncio.get_running_loop()
        entry = _Entry(record + b"\n", loop, loop.create_future())
        self._queue.put(entry)
        await entry.done

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._file)
        os.close(self._lock)

    def _run(self) -> None:
        """On the thread."""
        going = True
        while going:
            entries = self._take()
            if entries:
                self._write([entry for entry in entries if entry])
            elif self._unsynced:
                self._sync()
            going = None not in entries
        if self._unsynced:
            self._sync()

    def _take(self) -> list[_Entry | None]:
        """What waits, or what comes first; nothing if it is time to look after the disk."""
        try:
            entries = [self._queue.get(timeout=INTERVAL_S if self._unsynced else None)]
        except queue.Empty:
            return []
        with suppress(queue.Empty):
            while len(entries) < MOST_AT_ONCE:
                entries.append(self._queue.get_nowait())
        return entries

    def _write(self, entries: Sequence[_Entry]) -> None:
        if not entries:
            return
        try:
            self._append(b"".join(entry.line for entry in entries))
        except OSError as error:
            if not self._failing:
                log.error("the audit log cannot be written", extra={"error": error.strerror})
            self._failing = True
        else:
            if self._failing:
                log.info("the audit log can be written again")
            self._failing = False
        _tell(entries, failed=self._failing)

    def _append(self, data: bytes) -> None:
        if self._torn:
            os.ftruncate(self._file, self._size)
            self._torn = False
        if self._size and self._size + len(data) > self._settings.max_bytes:
            self._rotate()
        self._torn = True
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
            if self._settings.fsync is Fsync.ALWAYS:
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            self._torn = False
            raise
        self._torn = False
        self._size += len(data)
        self._unsynced = self._settings.fsync is Fsync.INTERVAL

    def _sync(self) -> None:
        self._unsynced = False
        try:
            os.fsync(self._file)
        except OSError as error:
            log.error("the audit log may not be on the disk", extra={"error": error.strerror})

    def _rotate(self) -> None:
        """Puts the full file aside and begins another one."""
        path, keep = self._settings.path, self._settings.keep
        # No glob: where the folder cannot be read it may find nothing, and the oldest file would be overwritten.
        named = re.compile(re.escape(path.name) + r"\.[0-9]{6}")
        full = sorted(entry for entry in path.parent.iterdir() if named.fullmatch(entry.name))
        if path.exists():  # else an earlier try came as far as this
            aside = _beside(path, f"{int(full[-1].suffix[1:]) + 1 if full else 1:06}")
            if self._settings.fsync is not Fsync.NEVER:
                os.fsync(self._file)
            path.rename(aside)
            full.append(aside)
            log.info("the audit log was rotated", extra={"file": aside.name})
        file, self._size = _open(path)
        os.close(self._file)
        self._file = file
        for old in full[:-keep] if keep else ():
            old.unlink(missing_ok=True)


class AuditFileError(CascadeError):
    """The audit log cannot be opened."""

    reason = "AUDIT_LOG_UNUSABLE"


@dataclass(slots=True)
class _Entry:
    """A line and who waits for it."""

    line: bytes
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _open(path: Path) -> tuple[int, int]:
    """Opens a file to append to, without the half line that a killed process may have left; returns its size, too."""
    file = os.open(path, FLAGS, MODE)
    try:
        size = os.fstat(file).st_size
        whole = _whole_lines(path, size)
        if whole < size:
            log.warning("the audit log ended in half a line, which was cut off", extra={"bytes": size - whole})
            os.ftruncate(file, whole)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)  # else the file's name may be gone with the power
        finally:
            os.close(folder)
    except BaseException:
        os.close(file)
        raise
    return file, whole


def _whole_lines(path: Path, size: int) -> int:
    """How many of a file's bytes are whole lines."""
    with path.open("rb") as file:
        end = size
        while end:
            start = max(0, end - BLOCK)
            file.seek(start)
            last = file.read(end - start).rfind(b"\n")
            if last >= 0:
                return start + last + 1
            end = start
    return 0


def _tell(entries: Sequence[_Entry], failed: bool) -> None:
    """Wakes up who waits for these entries; all of them are on one loop."""

    def tell() -> None:
        for entry in entries:
            if entry.done.done():  # its caller went away
                continue
            if failed:
                entry.done.set_exception(AuditError("the audit log cannot be written, and nothing is answered without"))
            else:
                entry.done.set_result(None)

    with suppress(RuntimeError):  # the loop was closed, and with it everybody who waited
        entries[0].loop.call_soon_threadsafe(tell)
