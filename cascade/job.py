"""One request as a stage's queue sees it: its windows, how much there is to do for them, and where it belongs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from cascade.errors import DeadlineTooShortError
from stages.stage import Window, WindowScores

EACH = 16  # a window takes as much time, whatever its length, as so many tokens of it
AGING = 2000  # work by which a request may be more than one that came a second later, and still goes before it
LONG = 1000  # work: what is more goes with these, so that nothing gives way to what comes half a second after it


def work_of(lengths: Iterable[int]) -> int:
    """How much there is to do for windows of so many tokens."""
    return sum(length + EACH for length in lengths)


def rank_of(total: float, since: float, most: float = LONG) -> float:
    """Where a request with so much work that came then belongs among its caller's: the smallest rank goes first.

    Work beyond ``most`` does not count.
    """
    return min(total, most) + AGING * since


@dataclass(eq=False, slots=True)
class Job:
    """One request: its windows, what is known of them so far, and a future that ends when all is known.

    ``waiting`` holds the indices of the windows that no batch has taken yet, shortest first. ``work`` is what they take
    together: their tokens, and ``EACH`` for each window; ``total`` is that of all windows, and ``yielding`` how much
    of it counts at most for its place. A ``hurried`` one is tried whatever is guessed of its time. ``turned`` is when
    it was last put to the end. Times are ``time.perf_counter`` seconds, but for ``deadline``: the event loop's.
    """

    windows: Sequence[Window]
    done: asyncio.Future[None]
    deadline: float | None = None
    caller: str = ""
    bulk: bool = False
    yielding: float = LONG
    hurried: bool = False
    scores: dict[int, WindowScores] = field(default_factory=dict)
    submitted: float = field(default_factory=time.perf_counter)
    started: float = inf
    ended: float = 0.0
    turned: float = -inf
    waiting: list[int] = field(init=False)
    total: int = field(init=False)
    work: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = sorted(range(len(self.windows)), key=lambda index: len(self.windows[index]))
        self.work = self.total = work_of(map(len, self.windows))

    @property
    def rank(self) -> float:
        """See :func:`rank_of`; a text longer than ``LONG`` goes to the end after each of its turns."""
        return max(rank_of(self.total, self.submitted, self.yielding), AGING * self.turned)

    @property
    def longest(self) -> int:
        """Tokens of the longest window that waits."""
        return len(self.windows[self.waiting[-1]])

    def hopeless(self, now: float, least_s: Callable[[int], float]) -> bool:
        """Nobody waits for the scores any more, or will when they come; who still does is told so.

        ``least_s`` tells how many seconds so much work takes at least.
        """
        if self.done.done() or self.deadline is None:
            return self.done.done()
        if self.deadline <= now:  # it hears that from its own timer
            return True
        if self.hurried or self.deadline >= now + least_s(self.work):
            return False
        self.fail(DeadlineTooShortError(least_s(self.work)))
        return True

    def fail(self, error: Exception) -> None:
        """Ends the wait with an error, unless it has ended already."""
        if not self.done.done():
            self.done.set_exception(error)

    def take(self) -> int:
        """Takes the longest window that waits; gives its index."""
        self.work -= self.longest + EACH
        return self.waiting.pop()


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a batch that one request has: indices of its windows."""

    job: Job
    indices: list[int]

    def windows(self) -> list[Window]:
        """The windows to score."""
        return [self.job.windows[index] for index in self.indices]
