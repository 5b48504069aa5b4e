"""log record -> *JsonFormatter* -> one line of JSON on stderr.

A traceback is told by exception types and code positions alone. What an exception says is left out: "invalid literal:
'...'" and its like quote their input, and here the input is somebody's text.
"""

from __future__ import annotations

import json
import logging
import select
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from io import UnsupportedOperation
from typing import Literal, TextIO

from cascade import tracing

ACCESS = "cascade.access"  # the logger of a line for each call
Level = Literal["debug", "info", "warning", "error"]

# What logging puts on every record; everything else on it came in as extra={...}.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as JSON: ``time``, ``level``, ``logger``, ``message``, its extra fields, and a ``traceback``.

    What is logged within a traced call has the ``trace_id``, too.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, keys in that order."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if span := tracing.CURRENT.get():
            line["trace_id"] = span.trace_id
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = describe(record.exc_info[1])
        return json.dumps(line, default=str)


class Handler(logging.StreamHandler[TextIO]):
    """Writes records to a stream, and drops those that a pipe has no room for: a reader that stalls stops no server.

    How many were dropped is told as soon as there is room again.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._dropped = 0
        self._poll: select.poll | None = None
        with suppress(UnsupportedOperation):  # it has no descriptor, and so is no pipe
            descriptor, self._poll = stream.fileno(), select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record if that can be done at once."""
        if self._dropped and self._has_room():
            fields = {"lines": self._dropped, "name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
            self._dropped = 0
            super().emit(logging.makeLogRecord({"msg": "lines of the log were dropped: nobody read them", **fields}))
        if self._has_room():
            super().emit(record)
        else:
            self._dropped += 1

    def _has_room(self) -> bool:
        return self._poll is None or bool(self._poll.poll(0))


def describe(error: BaseException) -> list[str]:
    """An exception as type names and positions, causes first, without any message, source line or value."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [*describe(before), "then:"] if before is not None else []
    lines.append(f"{type(error).__module__}.{type(error).__qualname__}")
    for frame in traceback.extract_tb(error.__traceback__):
        lines.append(f"{frame.filename}:{frame.lineno} in {frame.name}")
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            lines += describe(inner)
    return lines


def configure(level: Level, *, access: bool = False) -> None:
    """Sends this process's log records to stderr as JSON: its own from ``level`` on, other packages' warnings.

    A line for each call is among them if ``access`` says so, or at "debug".
    """
    handler = Handler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for own in ("cascade", "stages"):
        logging.getLogger(own).setLevel(level.upper())
    logging.getLogger(ACCESS).setLevel(logging.INFO if access or level == "debug" else logging.CRITICAL)
    logging.captureWarnings(True)
