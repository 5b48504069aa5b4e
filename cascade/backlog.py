"""What a request would have to wait for at a stage, in seconds: what admission goes by."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.job import Job

SMOOTHING = 0.1  # weight of the newest request


@dataclass(frozen=True, slots=True)
class Backlog:
    """What goes before a caller's next request, in seconds of work at the measured pace.

    Attributes:
        waiting_s: all that waits and is as urgent or more so, but for what is longer and has not waited long.
        own_s: the part of it that is the caller's own.
        ahead_s: the part of it that goes before the request, roughly: callers take turns.
        callers: who shares the stage, the caller included.
        running_s: what is left of the running batches.
        request_s: what a request takes on average; of a long one what goes before it is put to the end.
    """

    waiting_s: float
    own_s: float
    ahead_s: float
    callers: int
    running_s: float
    request_s: float


class Typical:
    """A request as the latest ones are on average, and by it what another one takes.

    Attributes:
        work: what there is to do for it; of a long one what goes before it is put to the end.
    """

    def __init__(self) -> None:
        self.work = 0.0
        self._size = 0.0

    def note(self, job: Job, most: int) -> None:
        """Takes note of a request that has come, of which ``most`` work at most goes before it is put to the end."""
        news, share = SMOOTHING if self.work else 1.0, min(1.0, most / job.work)
        self.work += news * (share * job.work - self.work)
        self._size += news * (share * sum(window.end - window.start for window in job.windows) - self._size)

    def work_of(self, size: int | None) -> float:
        """About how much there is to do for so many code points, or for a request of which nothing is known."""
        return self.work if size is None or not self._size else size * self.work / self._size
