"""What a caller's next request would have to wait for at a stage, in seconds: what admission goes by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backlog:
    """What goes before a caller's next request, if that is of average length, in seconds of work at the measured pace.

    Attributes:
        waiting_s: all that waits and is as urgent or more so, but for what is longer and has not waited long.
        own_s: the part of it that is the caller's own.
        ahead_s: the part of it that goes before the request, roughly: callers take turns.
        callers: who shares the stage, the caller included.
        running_s: what is left of the running batches.
        request_s: what a request takes on average; of a long one what goes before it is put to the end.
        all_s: as ``waiting_s``, with what is longer.
    """

    waiting_s: float
    own_s: float
    ahead_s: float
    callers: int
    running_s: float
    request_s: float
    all_s: float = 0.0
