"""log record -> *JsonFormatter* -> one line of JSON on stderr.

A traceback is told by exception types and code positions alone. What an exception says is left out: "invalid literal:
'...'" and its like quote their input, and here the input is somebody's text.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Literal

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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for own in ("cascade", "stages"):
        logging.getLogger(own).setLevel(level.upper())
    logging.getLogger(ACCESS).setLevel(logging.INFO if access or level == "debug" else logging.CRITICAL)
    logging.captureWarnings(True)
