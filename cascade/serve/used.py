"""What callers have used of their quotas, told by all processes of a server together: *caller* -> ``Used``, to change.

A book is a table in memory that processes share, with a lock for each of its rows: to look a caller up takes some
microseconds and waits for no other process than one that has the same row at that moment. The system frees the lock of
a process that dies.
"""

from __future__ import annotations

import fcntl
import mmap
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from os import close, dup
from weakref import finalize

from cascade.errors import CascadeError

ROWS, PLACES = 4096, 8
PLACE = struct.Struct("=QdII")  # a hash of the caller, full_at, day, count
ROW_BYTES = PLACES * PLACE.size


@dataclass(slots=True)
class Used:
    """What a caller has used.

    Attributes:
        full_at: when its bucket is full again, in seconds of the monotonic clock.
        day: the day that ``count`` is of, in days since 1970.
        count: what it asked for on that day.
    """

    full_at: float = 0.0
    day: int = 0
    count: int = 0


class Book:
    """What callers have used, in a file without a name that each process has mapped into its memory.

    There is room for some 30,000 callers. Beyond it those are forgotten whose buckets have been full for longest.

    Args:
        file: the descriptor of another process's book, inherited from it; None for a new book.

    Raises:
        CascadeError: there is no room for a new one.
    """

    def __init__(self, file: int | None = None) -> None:
        self._file = _without_name() if file is None else file
        finalize(self, close, self._file)
        self._table = mmap.mmap(self._file, ROWS * ROW_BYTES)

    def fileno(self) -> int:
        """The file's descriptor, for a process that shall inherit it."""
        return self._file

    @contextmanager
    def of(self, caller: str) -> Iterator[Used]:
        """What a caller has used: the body may change it, and no other process does meanwhile. It must not await."""
        key = int.from_bytes(blake2b(caller.encode(), digest_size=8).digest()) or 1
        row = key % ROWS
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, row)
        try:
            place, used = self._find(row * ROW_BYTES, key)
            yield used
            PLACE.pack_into(self._table, place, key, used.full_at, used.day, used.count)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, row)

    def _find(self, row: int, key: int) -> tuple[int, Used]:
        """A caller's place in the row that begins at this byte, and what is there of it; else the place to take."""
        places = {}
        for place in range(row, row + ROW_BYTES, PLACE.size):
            found, full_at, day, count = PLACE.unpack_from(self._table, place)
            if found == key:
                return place, Used(full_at, day, count)
            places[place] = bool(found), day, full_at
        return min(places, key=places.__getitem__), Used()


def _without_name() -> int:
    """The descriptor of a new file for a book.

    It is filled now, since a hole that is first written to when the disk is full ends the process (SIGBUS).
    """
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(ROWS * ROW_BYTES))
            file.flush()
            return dup(file.fileno())
    except OSError as error:
        raise CascadeError(f"the folder for temporary files cannot be written to: {error.strerror}") from error
