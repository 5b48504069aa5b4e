"""Who is scored next: windows wait here by request, and leave in batches.

- What somebody waits for goes before bulk work; of what goes while both wait, bulk work gets an eighth at least.
- Callers take turns, whatever the number of their requests. Of one caller's requests the shortest goes first (shortest
  job first: Phipps 1956), and waiting makes up for length, the sooner the less ``Job.yielding`` is; a book goes to the
  end after each of its turns. A flood does not hold up the neighbour, nor a book a sentence.
- A batch holds windows of nearly one length only, for padding is paid like text.
- A request that was given up, or that cannot be scored before its deadline, is dropped unscored.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import count, islice
from math import ceil, inf

from cascade.job import EACH, LONG, Job, Share, work_of

PADDING = 1.25  # the longest window of a batch has at most this many times the tokens of its shortest
LOOKAHEAD = 256  # requests that are looked at to fill a batch: bounds the time that this takes
PATIENCE = 7  # a unit of bulk work waits for at most so many units of other work


class WindowQueue:
    """Requests with windows that wait. False when empty.

    Args:
        budget: work of a batch, padding included, unless a single window is more.

    Attributes:
        turn: work of which a request has no more before others have their turn.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self.turn = max(budget, LONG)
        self._lanes = {bulk: _Lane(budget, self.turn) for bulk in (False, True)}
        self._passed_over = 0  # work that went before the bulk work that waits

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
        """Puts a request where it belongs among its caller's."""
        self._lanes[job.bulk].add(job)

    def remove(self, job: Job) -> None:
        """Takes a request out, if it is there."""
        self._lanes[job.bulk].remove(job)

    def ahead(self, caller: str, bulk: bool, rank: float = inf) -> int:
        """Work that goes before a caller's next request of such a rank, roughly.

        That is its own, and what others have in as many turns. What is bulk comes after all of the caller's own.
        """
        lane = self._lanes[bulk]
        own = lane.load_of(caller, inf if bulk else rank)
        turns = 1 + own // self._budget
        others = min(lane.load - lane.load_of(caller), turns * self._budget * len(lane))
        return own + others + (self._lanes[False].load if bulk else 0)

    def take(self, threads: int, now: float, least_s: Callable[[int], float] = lambda work: 0.0) -> list[Share]:
        """The next batch: windows of the request that goes first, longest first, then others nearly as long.

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
        taken = work_of(len(window) for share in batch for window in share.windows())
        if lane is urgent:
            self._passed_over = self._passed_over + taken if bulk else 0
        else:
            self._passed_over = max(0, self._passed_over - PATIENCE * taken)
        return batch


class _Room:
    """What a batch has room for: at least one window, and not more than ``most``."""

    def __init__(self, budget: int, most: int) -> None:
        self._budget, self._most = budget, most
        self._windows, self._shortest, self._longest = 0, 0, 0

    @property
    def is_full(self) -> bool:
        """Whether no window whatever has room beside those that it has."""
        return self._windows > 0 and not self._holds(self._longest)

    def fill(self, job: Job) -> list[int]:
        """Takes windows of a request, longest first, as long as they fit; gives their indices."""
        taken: list[int] = []
        while job.waiting and self._fits(length := job.longest):
            self._shortest = min(length, self._shortest) if self._windows else length
            self._longest = max(length, self._longest)
            self._windows += 1
            taken.append(job.take())
        return taken

    def _fits(self, length: int) -> bool:
        if not self._windows:
            return True
        shortest, longest = min(length, self._shortest), max(length, self._longest)
        return longest <= PADDING * shortest and self._holds(longest)

    def _holds(self, longest: int) -> bool:
        """Whether one window more has room where they are padded to so many tokens."""
        return self._windows < self._most and (self._windows + 1) * (longest + EACH) <= self._budget


_Place = tuple[float, int, Job, int]  # rank, a number that no other has, the request and what it counts for


class _Line:
    """The requests of one caller, those that go first in front; ``load`` is what they count for together."""

    def __init__(self) -> None:
        self.load = 0
        self._ranked: list[_Place] = []
        self._places: dict[Job, _Place] = {}
        self._numbers = count()

    def __contains__(self, job: Job) -> bool:
        return job in self._places

    def __iter__(self) -> Iterator[Job]:
        return (job for _, _, job, _ in self._ranked)

    def __len__(self) -> int:
        return len(self._ranked)

    def before(self, rank: float) -> int:
        """The load of the requests that go before one of such a rank."""
        if rank == inf:
            return self.load
        return sum(load for *_, load in self._ranked[: bisect_left(self._ranked, (rank,))])

    def put(self, job: Job, load: int) -> None:
        """Puts a request where it belongs; ``load`` is what it counts for."""
        place = job.rank, next(self._numbers), job, load
        insort(self._ranked, place)
        self._places[job] = place
        self.load += load

    def remove(self, job: Job) -> int:
        """Takes a request out that is there, and gives what it counted for."""
        place = self._places.pop(job)
        del self._ranked[bisect_left(self._ranked, place)]
        *_, load = place
        self.load -= load
        return load


class _Lane:
    """Requests of one urgency by caller, in the order of the callers' turns. Its length is the number of callers.

    Attributes:
        windows: windows that wait.
        load: work that waits; of each request only as much as goes before it is put to the end.
    """

    def __init__(self, budget: int, turn: int) -> None:
        self.windows = 0
        self.load = 0
        self._budget, self._turn = budget, turn
        self._callers: OrderedDict[str, _Line] = OrderedDict()

    def __len__(self) -> int:
        return len(self._callers)

    def load_of(self, caller: str, rank: float = inf) -> int:
        """The load of one caller, or of what goes before a request of its of such a rank."""
        line = self._callers.get(caller)
        return line.before(rank) if line else 0

    def load_before(self, rank: float) -> int:
        """The load of what goes before a request of such a rank, whoever's it is."""
        return sum(line.before(rank) for line in self._callers.values())

    def add(self, job: Job) -> None:
        self.windows += len(job.waiting)
        self._put(job)

    def remove(self, job: Job) -> None:
        line = self._callers.get(job.caller)
        if line is not None and job in line:
            self.windows -= len(job.waiting)
            self.load -= line.remove(job)
            if not line:
                del self._callers[job.caller]

    def in_turn(self) -> Iterator[Job]:
        """The first request of each caller, then the second of each, and so on."""
        lines = deque(iter(line) for line in self._callers.values())
        while lines:
            line = lines.popleft()
            if (job := next(line, None)) is not None:
                yield job
                lines.append(line)

    def take(self, threads: int, now: float, least_s: Callable[[int], float]) -> list[Share]:
        """See :meth:`WindowQueue.take`."""
        batch: list[Share] = []
        gone: list[Job] = []
        room = _Room(self._budget, ceil(self.windows / threads))
        for job in islice(self.in_turn(), LOOKAHEAD):
            if job.hopeless(now, least_s):
                gone.append(job)
                continue
            if indices := room.fill(job):
                batch.append(Share(job, indices))
            if room.is_full:
                break
        for job in gone:
            self.remove(job)
        for share in batch:
            self._taken(share)
        if batch and batch[0].job.caller in self._callers:
            self._callers.move_to_end(batch[0].job.caller)
        return batch

    def _taken(self, share: Share) -> None:
        """Takes a request out, and puts what is left of it where that belongs."""
        self.windows -= len(share.indices)
        line = self._callers[share.job.caller]
        self.load -= line.remove(share.job)
        if share.job.waiting:
            if share.job.total > LONG:
                share.job.turned = time.perf_counter()
            self._put(share.job)
        elif not line:
            del self._callers[share.job.caller]

    def _put(self, job: Job) -> None:
        load = min(job.work, self._turn)
        self._callers.setdefault(job.caller, _Line()).put(job, load)
        self.load += load
