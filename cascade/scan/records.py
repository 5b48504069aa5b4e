"""What passes between the parts of a scan: a record read, its outcome, and the interface of a file format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cascade.errors import CascadeError
from cascade.limits import Limits

RESULT, ERROR = "result", "error"

T = TypeVar("T")


class ScanUsageError(CascadeError):
    """The files or fields that were named cannot be scanned: an unknown format, a column that is not there."""

    reason = "SCAN_USAGE"


class ScanError(CascadeError):
    """A scan cannot go on: its part file belongs to another scan, or its input changed or cannot be read."""

    reason = "SCAN_FAILED"


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of the input's columns or keys."""

    text: str = "text"
    response: str = "response"
    id: str = "id"

    def required(self) -> list[str]:
        """Those that a file must have: the text, and what was named otherwise than by default."""
        default = Fields()
        named = [(self.response, default.response), (self.id, default.id)]
        return [self.text, *(name for name, usual in named if name != usual)]


@dataclass(frozen=True, slots=True)
class Record:
    """One row to be judged.

    Attributes:
        number: of the row, from 1; blank lines do not count.
        position: how far into the input the row ends, on the scale of :attr:`Source.size`.
        id: the row's own id, or its number.
        text: what to judge; None if ``problem`` is set.
        response: the answer that the text got, if the row has one.
        problem: why the row cannot be judged.
    """

    number: int
    position: int
    id: str
    text: str | None = None
    response: str | None = None
    problem: str | None = None

    def request_id(self) -> str:
        """The row's id if it can be a request's id, else its number."""
        try:
            return self.id if len(self.id.encode()) <= Limits().max_request_id_bytes else str(self.number)
        except UnicodeEncodeError:
            return str(self.number)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a record: a ``CheckResponse`` in its JSON form, or an error of ``code`` and ``message``."""

    result: dict[str, Any] | None
    error: dict[str, str] | None = None


class Source(Protocol):
    """An input file of some format. Every iteration over it starts anew and holds a bounded part of it in memory."""

    @property
    def size(self) -> int:
        """The whole, on the scale of :attr:`Record.position` (bytes or rows)."""

    def records(self) -> Iterator[Record]:
        """Reads the rows.

        Raises:
            ScanUsageError: a column is not there or holds no text.
            ScanError: the file cannot be read.
        """

    def write(self, outcomes: Iterator[Outcome], out: Path) -> None:
        """Writes the input's rows to ``out``, each with its outcome.

        Raises:
            ScanError: there are fewer or more outcomes than rows.
        """


def record(number: int, position: int, row_id: object, text: object, response: object) -> Record:
    """Makes a record of a row's values, whatever they are."""
    known = str(number) if row_id is None or row_id == "" else str(row_id)
    if text is None:
        return Record(number, position, known, problem="the row has no text")
    if not isinstance(text, str):
        return Record(number, position, known, problem="the text is not a string")
    if not isinstance(response, str | None):
        return Record(number, position, known, problem="the response is not a string")
    return Record(number, position, known, text, response)


def paired(rows: Iterator[T], outcomes: Iterator[Outcome]) -> Iterator[tuple[T, Outcome]]:
    """Rows with their outcomes.

    Raises:
        ScanError: one of the two ends before the other.
    """
    try:
        yield from zip(rows, outcomes, strict=True)
    except ValueError as error:
        raise ScanError("the input has other rows than when they were scored: it changed during the scan") from error
