"""Who is scored next: windows wait here by request, and leave in batches.

- What somebody waits for goes before bulk work; of what goes while both wait, bulk work gets an eighth at least.
- Callers take turns, whatever the number of their requests, and so do the requests of one caller: a batch starts with
  the request that has waited longest for one, and a request with windows left goes to the end. A flood does not hold up
  the neighbour, nor a book a sentence.
- A batch holds windows of nearly one length only, for padding is paid like text.
- A request that was given up, or that cannot be scored before its deadline, is dropped unscored.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil, inf

from cascade.errors import DeadlineTooShortError
from stages.stage import Window, WindowScores

PADDING = 1.25  # padded tokens of a batch, at most this many times its real ones
LOOKAHEAD = 256  # requests that are looked at to fill a batch: bounds the time that this takes
PATIENCE = 7  # tokens that go before each one of waiting bulk work, at most


@dataclass(eq=False, slots=True)
class Job:
    """One request: its windows, what is known of them so far, and a future that ends when all is known.

    ``waiting`` holds the indices of the windows that no batch has taken yet, shortest first, and ``tokens`` is what
    they have together. A ``hurried`` one is tried whatever is guessed of its time. Times are ``time.perf_counter``
    seconds, but for ``deadline``, which is one of the event loop's clock.
    """

    windows: Sequence[Window]
    done: asyncio.Future[None]
    deadline: float | None = None
    caller: str = ""
    bulk: bool = False
    hurried: bool = False
    scores: dict[int, WindowScores] = field(default_factory=dict)
    submitted: float = field(default_factory=time.perf_counter)
    started: float = inf
    ended: float = 0.0
    waiting: list[int] = field(init=False)
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = sorted(range(len(self.windows)), key=lambda index: len(self.windows[index]))
        self.tokens = sum(map(len, self.windows))

    @property
    def longest(self) -> int:
        """Tokens of the longest window that waits."""
        return len(self.windows[self.waiting[-1]])

    def hopeless(self, now: float, least_s: Callable[[int], float]) -> bool:
        """Nobody waits for the scores any more, or will when they come; who still does is told so.

        ``least_s`` tells how many seconds it takes at least to score so many tokens.
        """
        if self.done.done() or self.deadline is None:
            return self.done.done()
        if self.deadline <= now:  # it hears that from its own timer
            return True
        if self.hurried or self.deadline >= now + least_s(self.tokens):
            return False
        self.fail(DeadlineTooShortError(least_s(self.tokens)))
        return True

    def fail(self, error: Exception) -> None:
        """Ends the wait with an error, unless it has ended already."""
        if not self.done.done():
            self.done.set_exception(error)

    def take(self, longest: int, room: int) -> list[int]:
        """Takes up to ``room`` waiting windows, longest first, as long as padding them to ``longest`` is cheap."""
        taken: list[int] = []
        while self.waiting and len(taken) < room and longest / PADDING <= self.longest <= longest:
            self.tokens -= self.longest
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
    """Requests with windows that wait. False when empty.

    Args:
        budget: tokens of a batch, padded, unless a single window has more.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._lanes = {False: _Lane(budget), True: _Lane(budget)}
        self._passed_over = 0  # tokens that went before the bulk work that waits

    def __bool__(self) -> bool:
        return any(self._lanes.values())

    @property
    def windows(self) -> int:
        """Windows that wait."""
        return sum(lane.windows for lane in self._lanes.values())

    def lane(self, bulk: bool) -> _Lane:
        """Either what is bulk, or what is not."""
        return self._lanes[bulk]

    def jobs(self) -> list[Job]:
        """The requests that wait."""
        return [job for lane in self._lanes.values() for job in lane.in_turn()]

    def add(self, job: Job) -> None:
        """Puts a request at the end of its caller's."""
        self._lanes[job.bulk].add(job)

    def remove(self, job: Job) -> None:
        """Takes a request out, if it is there."""
        self._lanes[job.bulk].remove(job)

    def ahead(self, caller: str, bulk: bool) -> int:
        """Tokens that go before the next request of a caller, roughly: its own, and what others have in as many turns.

        Of each request only as much counts as goes in one turn.
        """
        lane = self._lanes[bulk]
        own = lane.load_of(caller)
        turns = 1 + own // self._budget
        others = min(lane.load - own, turns * self._budget * len(lane))
        return own + others + (self._lanes[False].load if bulk else 0)

    def take(self, threads: int, now: float, least_s: Callable[[int], float] = lambda tokens: 0.0) -> list[Share]:
        """The next batch: windows of the request whose turn it is, longest first, then others nearly as long.

        Args:
            threads: threads that are free: they share what waits, rather than one of them getting it all.
            now: time of the event loop's clock.
            least_s: see :meth:`Job.hopeless`.

        Returns:
            The batch; it is empty only if all the requests that were looked at had to be dropped.
        """
        urgent, bulk = self._lanes[False], self._lanes[True]
        enough = PATIENCE * min(bulk.load, self._budget)
        lane = bulk if bulk and (not urgent or self._passed_over >= enough) else urgent
        batch = lane.take(threads, now, least_s)
        taken = sum(len(window) for share in batch for window in share.windows())
        self._passed_over = self._passed_over + taken if bulk and lane is urgent else 0
        return batch


class _Lane:
    """Requests of one urgency by caller, both in the order of their turns. Its length is the number of callers.

    Attributes:
        windows: windows that wait.
        load: tokens that wait; of each request only as many as go in one turn.
    """

    def __init__(self, budget: int) -> None:
        self.windows = 0
        self.load = 0
        self._budget = budget
        self._callers: OrderedDict[str, OrderedDict[Job, int]] = OrderedDict()  # to each job its load
        self._loads: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._callers)

    def load_of(self, caller: str) -> int:
        """The load of one caller."""
        return self._loads.get(caller, 0)

    def add(self, job: Job) -> None:
        self._callers.setdefault(job.caller, OrderedDict())[job] = 0
        self.windows += len(job.waiting)
        self._weigh(job)

    def remove(self, job: Job) -> None:
        jobs = self._callers.get(job.caller)
        if jobs is not None and job in jobs:
            self.windows -= len(job.waiting)
            self._charge(job, -jobs.pop(job))
            if not jobs:
                del self._callers[job.caller], self._loads[job.caller]

    def in_turn(self) -> Iterator[Job]:
        """One request of each caller, then the next of each, and so on."""
        lines = deque(iter(jobs) for jobs in self._callers.values())
        while lines:
            line = lines.popleft()
            if (job := next(line, None)) is not None:
                yield job
                lines.append(line)

    def take(self, threads: int, now: float, least_s: Callable[[int], float]) -> list[Share]:
        """See :meth:`WindowQueue.take`."""
        batch: list[Share] = []
        gone: list[Job] = []
        longest = room = 0
        for job in islice(self.in_turn(), LOOKAHEAD):
            if job.hopeless(now, least_s):
                gone.append(job)
                continue
            if not batch:
                longest = job.longest
                room = max(1, min(self._budget // longest, ceil(self.windows / threads)))
            if indices := job.take(longest, room):
                batch.append(Share(job, indices))
                room -= len(indices)
            if not room:
                break
        for job in gone:
            self.remove(job)
        for share in batch:
            self._taken(share)
        if batch:
            self._end_turn(batch[0].job)
        return batch

    def _taken(self, share: Share) -> None:
        self.windows -= len(share.indices)
        if share.job.waiting:
            self._weigh(share.job)
        else:
            self.remove(share.job)

    def _end_turn(self, job: Job) -> None:
        """Puts a caller, and of its requests this one, at the end."""
        jobs = self._callers.get(job.caller)
        if jobs is not None:
            self._callers.move_to_end(job.caller)
            if job in jobs:
                jobs.move_to_end(job)

    def _weigh(self, job: Job) -> None:
        jobs = self._callers[job.caller]
        before, jobs[job] = jobs[job], min(job.tokens, self._budget)
        self._charge(job, jobs[job] - before)

    def _charge(self, job: Job, tokens: int) -> None:
        self.load += tokens
        self._loads[job.caller] = self._loads.get(job.caller, 0) + tokens
