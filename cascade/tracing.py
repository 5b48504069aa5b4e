"""Where the time of a request goes, told to whoever traces it: *stage times, notes* -> the span of this context.

Without a span, which is the rule, all of this costs one look-up. Nothing here knows who listens; texts have no place in
what is told.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

Fact = str | int | float | bool


@dataclass(frozen=True, slots=True)
class StageTimes:
    """What a stage was asked and when: from ``began``, in ``time.perf_counter`` seconds, one phase after the other."""

    stage: str
    model: str
    began: float
    tokenize_ms: float
    queue_ms: float
    infer_ms: float
    windows: int


class Span(Protocol):
    """A stretch of time in a trace, which is known by ``trace_id``, 32 hex digits."""

    @property
    def trace_id(self) -> str:
        """The trace that it is part of."""

    def child(self, name: str, **facts: Fact) -> AbstractContextManager[None]:
        """A span within this one, for the body, in which it is the current one."""

    def note(self, **facts: Fact) -> None:
        """Adds facts to this span; in their names "__" stands for a dot."""

    def stage(self, times: StageTimes) -> None:
        """Adds what a stage has just done."""


CURRENT: ContextVar[Span | None] = ContextVar("cascade_span", default=None)
_NOTHING = nullcontext()


def child(name: str, **facts: Fact) -> AbstractContextManager[None]:
    """A span within the current one, for the body; nothing if there is none."""
    span = CURRENT.get()
    return _NOTHING if span is None else span.child(name, **facts)


def note(**facts: Fact) -> None:
    """Adds facts to the current span, if there is one."""
    span = CURRENT.get()
    if span is not None:
        span.note(**facts)
