"""Who is scored next: windows wait here by request, and leave in batches.

- Requests take turns: each batch starts with the request that has waited longest for one, and a request with windows
  left goes to the end of the queue. A book does not hold up a sentence.
- A batch holds windows of nearly one length only, for padding is paid like text.
- A request that was given up, or whose deadline has passed, is dropped unscored.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil, inf

from stages.stage import Window, WindowScores

PADDING = 1.25  # padded tokens of a batch, at most this many times its real ones
LOOKAHEAD = 256  # requests that are looked at to fill a batch: bounds the time that this takes


@dataclass(eq=False, slots=True)
class Job:
    """One request: its windows, what is known of them so far, and a future that ends when all is known.

    ``waiting`` holds the indices of the windows that no batch has taken yet, shortest first. Times are
    ``time.perf_counter`` seconds, but for ``deadline``, which is one of the event loop's clock.
    """

    windows: Sequence[Window]
    done: asyncio.Future[None]
    deadline: float | None = None
    scores: dict[int, WindowScores] = field(default_factory=dict)
    submitted: float = field(default_factory=time.perf_counter)
    started: float = inf
    ended: float = 0.0
    waiting: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = sorted(range(len(self.windows)), key=lambda index: len(self.windows[index]))

    @property
    def longest(self) -> int:
        """Tokens of the longest window that waits."""
        return len(self.windows[self.waiting[-1]])

    def hopeless(self, now: float) -> bool:
        """Nobody waits for the scores any more, or will when they come."""
        return self.done.done() or (self.deadline is not None and self.deadline <= now)

    def fail(self, error: Exception) -> None:
        """Ends the wait with an error, unless it has ended already."""
        if not self.done.done():
            self.done.set_exception(error)

    def take(self, longest: int, room: int) -> list[int]:
        """Takes up to ``room`` waiting windows, longest first, as long as padding them to ``longest`` is cheap."""
        taken: list[int] = []
        while self.waiting and len(taken) < room and longest / PADDING <= self.longest <= longest:
            taken.append(self.waiting.pop())
        return taken


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a batch that one request has: indices of its windows."""

    job: Job
    indices: list[int]

    def windows(self) -> list[Window]:
        """The windows to score."""
        return [self.job.windows[index] for index in self.indices]


class WindowQueue:
    """Requests with windows that wait, in the order of their turns. False when empty."""

    def __init__(self) -> None:
        self.windows = 0
        self._jobs: OrderedDict[Job, None] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def jobs(self) -> list[Job]:
        """The requests that wait."""
        return list(self._jobs)

    def add(self, job: Job) -> None:
        """Puts a request at the end."""
        self._jobs[job] = None
        self.windows += len(job.waiting)

    def remove(self, job: Job) -> None:
        """Takes a request out, if it is there."""
        if job in self._jobs:
            del self._jobs[job]
            self.windows -= len(job.waiting)

    def take(self, budget: int, threads: int, now: float) -> list[Share]:
        """The next batch: windows of the request whose turn it is, longest first, then others nearly as long.

        Args:
            budget: tokens of the batch, padded, unless a single window has more.
            threads: threads that are free: they share what waits, rather than one of them getting it all.
            now: time of the event loop's clock.

        Returns:
            The batch; it is empty only if all the requests that were looked at had to be dropped.
        """
        batch: list[Share] = []
        longest = room = 0
        for job in list(islice(self._jobs, LOOKAHEAD)):
            if job.hopeless(now):
                self.remove(job)
                continue
            if not batch:
                longest = job.longest
                room = max(1, min(budget // longest, ceil(self.windows / threads)))
                self._jobs.move_to_end(job)
            if indices := job.take(longest, room):
                batch.append(Share(job, indices))
                room -= len(indices)
                self.windows -= len(indices)
                if not job.waiting:
                    del self._jobs[job]
            if not room:
                break
        return batch
