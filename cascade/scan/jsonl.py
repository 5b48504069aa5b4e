"""JSON lines, gzipped or not: an object a line; the object comes back with ``result`` (and ``error``) in it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from cascade.scan.records import ERROR, RESULT, Fields, Outcome, Record, ScanError, ScanUsageError, paired, record

_LOOKED_AT = 100
"""Rows at the start of a file that are searched for a field before it counts as missing."""


@dataclass(frozen=True)
class JsonLines:
    """A ``.jsonl`` or ``.jsonl.gz`` file; ``first`` is the number of its first row if it is a piece of another file."""

    path: Path
    fields: Fields
    first: int = 1

    @property
    def size(self) -> int:
        """Bytes of the file as it lies on the disk."""
        return self.path.stat().st_size

    def records(self) -> Iterator[Record]:
        """Reads the rows; see :class:`~cascade.scan.records.Source`."""
        if self.first == 1:
            self._require_fields()
        for number, (line, position) in enumerate(self._lines(), self.first):
            row = _parse(line)
            if row is None:
                yield Record(number, position, str(number), problem="the line is not a JSON object")
            else:
                fields = self.fields
                yield record(number, position, row.get(fields.id), row.get(fields.text), row.get(fields.response))

    def write(self, outcomes: Iterator[Outcome], out: Path) -> None:
        """Writes the rows with their outcomes; a line that is no object becomes one with its number as id."""
        with _create(out) as file:
            for number, ((line, _), outcome) in enumerate(paired(self._lines(), outcomes), self.first):
                row = _parse(line) or {}
                if row.get(self.fields.id) is None:
                    row[self.fields.id] = number
                row.pop(ERROR, None)
                row[RESULT] = outcome.result
                if outcome.error is not None:
                    row[ERROR] = outcome.error
                file.write(dump(row) + b"\n")

    def _lines(self) -> Iterator[tuple[bytes, int]]:
        """Lines that are not blank, each with the position in the file on the disk behind it."""
        try:
            with self.path.open("rb") as raw:
                lines = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if self.path.suffix == ".gz" else raw
                for line in lines:
                    if not line.isspace():
                        yield line, raw.tell()
        except (OSError, EOFError, zlib.error) as error:
            raise ScanError(f"{self.path}: {error}") from error

    def _require_fields(self) -> None:
        first = [row for line, _ in islice(self._lines(), _LOOKED_AT) if (row := _parse(line)) is not None]
        found = {key for row in first for key in row}
        missing = [name for name in self.fields.required() if name not in found]
        if first and missing:
            raise ScanUsageError(f"{self.path}: no row has {missing}; the keys are {sorted(found)}")


def dump(value: object) -> bytes:
    """Compact JSON in UTF-8; escaped where a string holds a lone surrogate, which has no UTF-8."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _create(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":  # without a time stamp, so that equal results make equal files
        return cast(IO[bytes], gzip.GzipFile(path, "wb", mtime=0))
    return path.open("wb")
