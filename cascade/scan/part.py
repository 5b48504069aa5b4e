"""OUT.part, what a scan has scored so far: a first line that says which scan it is, then one outcome a row.

It is JSON lines whatever the format of OUT, and is only ever appended to, so that a scan that was killed goes on from
it. A line that was cut off by the end of the process is dropped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cascade.scan.jsonl import dump
from cascade.scan.records import Outcome, ScanError


class Part:
    """The part file, open for appending and locked against a second scan; a context manager.

    Attributes:
        done: rows that have their outcome.
        bad: those of them that have an error.
    """

    def __init__(self, path: Path, scan: dict[str, str]) -> None:
        """Opens the file, or makes it.

        Args:
            path: of the part file.
            scan: what determines the outcomes (input, fields, models, policy); a part file of another scan is refused.

        Raises:
            ScanError: the file belongs to another scan, is in use, or is no part file.
        """
        self.path = path
        self.done = self.bad = 0
        self._file: IO[bytes] = path.open("a+b")
        try:
            self._lock()
            self._recover(scan)
        except BaseException:
            self._file.close()
            raise

    def append(self, outcome: Outcome) -> None:
        """Adds the outcome of the next row."""
        self._write({"result": outcome.result} | ({"error": outcome.error} if outcome.error else {}))
        self._count(outcome)

    def outcomes(self) -> Iterator[Outcome]:
        """Everything that was scored, in the order of the rows."""
        with self.path.open("rb") as file:
            next(file, None)
            for line in file:
                yield _outcome(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScanError(f"{self.path}: another scan is writing it") from None

    def _recover(self, scan: dict[str, str]) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            if number == 0:
                self._same_scan(line, scan)
            else:
                self._count(_outcome(line))
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        if end == 0:
            self._write({"scan": scan})

    def _same_scan(self, line: bytes, scan: dict[str, str]) -> None:
        try:
            theirs = json.loads(line)["scan"]
            differ = sorted(key for key in scan.keys() | theirs.keys() if scan.get(key) != theirs.get(key))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ScanError(f"{self.path}: exists and is no part file of a scan") from None
        if differ:
            raise ScanError(f"{self.path}: is of another scan (other {', '.join(differ)}); remove it to start anew")

    def _count(self, outcome: Outcome) -> None:
        self.done += 1
        self.bad += outcome.error is not None

    def _write(self, value: object) -> None:
        self._file.write(dump(value) + b"\n")
        self._file.flush()


def _outcome(line: bytes) -> Outcome:
    try:
        raw = json.loads(line)
        return Outcome(raw["result"], raw.get("error"))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ScanError("the part file has a line that is no outcome; remove it to start anew") from None
