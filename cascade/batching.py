"""Feeds a stage from many requests at once: *windows* -> queue -> batch -> executor thread -> *scores*.

There is no timer. A free thread takes at once what is queued; while all are busy the queue grows, and with it the next
batch. So an idle server adds one thread hop to a request, and a busy one fills its batches. What a batch is made of is
told in :mod:`cascade.queueing`, when a stage is no longer asked in :mod:`cascade.breaker`.

What cannot be done before its deadline is not begun. The guess of how long it takes is halved first, and an idle stage
tries everything: rather too much is begun than that something feasible is refused.

All state belongs to the event loop's thread; the executor's threads see only the windows that they score. A batcher
belongs to the one event loop on which it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from time import perf_counter

from cascade import errors
from cascade.backlog import Backlog
from cascade.breaker import Breaker
from cascade.execution import Ran, give_way, run, stage_error
from cascade.job import LONG, Job, Share, rank_of, work_of
from cascade.pace import Pace
from cascade.queueing import WindowQueue
from stages.stage import CPU_BATCH_TOKENS, Stage, Window, WindowScores

RETRY_AFTER_S = (0.05, 30.0)  # the shortest and the longest wait that is asked for
TIMEOUT_S = 30.0  # far beyond any healthy batch, even of a slow model on a busy machine
SMOOTHING = 0.1  # weight of the newest request
CALM = 3  # a power: how soon, as the pressure rises, what is long stops giving way
DOUBT = 0.5  # what is certain of an expected time
PROBE = "Is the kettle still on?"


@dataclass(frozen=True, slots=True)
class Batched:
    """Scores in the order of the windows.

    ``queue_ms`` is the time until the first of them was taken up, ``infer_ms`` that from there to the last score.
    """

    scores: list[WindowScores]
    queue_ms: float
    infer_ms: float


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What one batch was, for metrics."""

    requests: int
    windows: int
    tokens: int
    padded_tokens: int
    infer_ms: float
    cpu_ms: float = 0.0  # of the thread that ran it


@dataclass(eq=False, slots=True)
class _Batch:
    """A batch on its way: its work with padding, when it has a thread and should end, what fires if it does not."""

    shares: list[Share]
    work: int
    begun: float
    due: float = 0.0
    alarm: asyncio.TimerHandle | None = None
    overdue: bool = False


class Batcher:
    """Scores windows of many requests on a stage, on threads of its own.

    Attributes:
        breaker: tells whether the stage is there.
        pressure: share of the latest contents that were refused because a queue was too long, 0 to 1; admission sets
            it. Under pressure the queue is kept short, and what is long no longer gives way in it.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        threads: int = 1,
        max_tokens_per_batch: int = CPU_BATCH_TOKENS,
        max_queued_windows: int = 8192,
        timeout_s: float = TIMEOUT_S,
        on_batch: Callable[[BatchStats], None] | None = None,
    ) -> None:
        """Starts nothing yet: the threads come with the first windows.

        Args:
            stage: what scores.
            threads: batches that run at the same time.
            max_tokens_per_batch: the work of a batch (:mod:`cascade.job`), with padding. On a CPU a batch costs
                what its windows cost one by one, so a small one only keeps the wait behind it short.
            max_queued_windows: windows that may wait, of bulk work and of the rest each; also the most of one request.
            timeout_s: what one batch may take; then its requests fail, and the stage is not asked until it answers.
            on_batch: called on the event loop after each batch; may also be set later.
        """
        self.stage = stage
        self.on_batch = on_batch
        self.breaker = Breaker(stage.info.name, self._probe)
        self._threads = threads
        self._max_queued = max_queued_windows
        self._timeout_s = timeout_s
        name = f"cascade-{stage.info.kind}"
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=give_way)
        self._queue = WindowQueue(max_tokens_per_batch)
        self._running: set[_Batch] = set()
        self.pressure = 0.0
        self._pace = Pace()
        self._typical = 0.0  # work of a request
        self._open = True
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def queued_windows(self) -> int:
        """Windows that wait now."""
        return self._queue.windows

    @property
    def oom_halvings(self) -> int:
        """Batches that the stage has halved because its device had no memory for them; 0 where it never does."""
        return int(getattr(self.stage, "oom_halvings", 0))

    def backlog(self, caller: str = "", *, bulk: bool = False) -> Backlog:
        """What there is to do before the next request of a caller. Call it on the event loop.

        Also under pressure that is ranked as at rest: else what came before the pressure would be overlooked.
        """
        now = asyncio.get_running_loop().time()
        if not self._queue and not self._running:
            return Backlog(0.0, 0.0, 0.0, 1, 0.0, self._pace.throughput_s(self._typical, now))
        lane = self._queue.lane(bulk)
        rank = inf if bulk else rank_of(self._typical, perf_counter())
        own = lane.load_of(caller, rank)
        more_urgent = self._queue.lane(False).load if bulk else 0
        seconds = partial(self._pace.throughput_s, now=now)
        return Backlog(
            waiting_s=seconds(lane.load_before(rank) + more_urgent) / self._threads,
            own_s=seconds(own) / self._threads,
            ahead_s=seconds(self._queue.ahead(caller, bulk, rank)) / self._threads,
            callers=len(lane) + (lane.load_of(caller) == 0),
            running_s=self._running_s(now),
            request_s=seconds(self._typical),
            all_s=seconds(lane.load + more_urgent) / self._threads,
        )

    async def score(
        self, windows: Sequence[Window], *, deadline: float | None = None, caller: str = "", bulk: bool = False
    ) -> Batched:
        """Scores windows, in order.

        Args:
            windows: what to score.
            deadline: a time of the event loop's clock.
            caller: who asks: the callers share the stage fairly.
            bulk: nobody waits at a screen: it gives way to what is not bulk.

        Raises:
            BreakerOpenError: the stage has failed too often, and is not asked now.
            DeadlineError: the deadline passed first.
            DeadlineTooShortError: it would pass first.
            LimitExceededError: there are more windows than the queue ever holds.
            OverloadedError: there is no room for them in the queue now.
            StageError: the stage failed on them.
            UnavailableError: the batcher is closed.
        """
        loop = asyncio.get_running_loop()
        job = Job(windows, loop.create_future(), deadline, caller, bulk, yielding=self._yielding)
        self._admit(job, loop.time())
        if not windows:
            return Batched([], 0.0, 0.0)
        news = SMOOTHING if self._typical else 1.0
        self._typical += news * (min(job.work, self._queue.turn) - self._typical)
        self._queue.add(job)
        self._idle.clear()
        try:
            async with asyncio.timeout_at(deadline):
                self._dispatch(loop)
                await job.done
        except TimeoutError:
            raise errors.DeadlineError("the deadline passed before the content was scored") from None
        finally:  # Whoever leaves early, cancelled or too late, leaves nothing in the queue.
            self._queue.remove(job)
            self._settle()
        scores = [job.scores[index] for index in range(len(windows))]
        return Batched(scores, 1e3 * (job.started - job.submitted), 1e3 * (job.ended - job.started))

    async def drain(self) -> None:
        """Takes nothing new and returns when everything that was taken is answered."""
        self._open = False
        self.breaker.stop()
        await self._idle.wait()

    async def close(self) -> None:
        """Takes nothing new, refuses what waits, lets the running batches end, and stops the threads.

        A batch that is overdue is not waited for, but the process cannot end before its thread does.
        """
        self._open = False
        self.breaker.stop()
        for job in self._queue.jobs():
            job.fail(errors.UnavailableError("the service is stopping"))
        await self._idle.wait()
        self._executor.shutdown(wait=not self._running)

    @property
    def _yielding(self) -> float:
        """How much work of a request counts for its place now: under pressure, hardly any, and the first goes first."""
        return LONG * (1 - self.pressure) ** CALM

    def _admit(self, job: Job, now: float) -> None:
        count = len(job.windows)
        if not self._open:
            raise errors.UnavailableError("the service is stopping")
        if self.breaker.is_open:
            raise self.breaker.refusal()
        if count > self._max_queued:
            raise errors.LimitExceededError("windows of text", self._max_queued)
        if self._queue.lane(job.bulk).windows + count > self._max_queued:
            raise errors.OverloadedError("too many texts wait to be scored", _retry_s(self._ahead_s(job, now)))
        busy = len(self._running) == self._threads
        job.hurried = not busy and job.work <= self._queue.turn
        if job.deadline is not None and busy:
            ahead_s = self._ahead_s(job, now)
            begin = now + DOUBT * (ahead_s + self._running_s(now))
            if begin + self._least_s(job.work, now) > job.deadline > now:
                raise errors.DeadlineTooShortError(_retry_s(ahead_s))

    def _ahead_s(self, job: Job, now: float) -> float:
        """What waits before a request, in seconds of all threads."""
        return self._pace.throughput_s(self._queue.ahead(job.caller, job.bulk, job.rank), now) / self._threads

    def _running_s(self, now: float) -> float:
        """When a thread will be free, in seconds from now, on average."""
        return sum(max(0.0, batch.due - now) for batch in self._running) / self._threads

    def _least_s(self, work: int, now: float) -> float:
        """What so much work takes at least, on all threads."""
        return DOUBT * self._pace.expected_s(work // self._threads, now)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives a batch to each free thread, as long as something waits."""
        while self._queue and (free := self._threads - len(self._running)):
            if shares := self._queue.take(free, loop.time(), partial(self._least_s, now=loop.time())):
                self._start(loop, shares)

    def _start(self, loop: asyncio.AbstractEventLoop, shares: list[Share]) -> None:
        lengths = [len(window) for share in shares for window in share.windows()]
        batch = _Batch(shares, work_of([max(lengths)] * len(lengths)), begun=loop.time())
        batch.due = batch.begun + self._pace.expected_s(batch.work, batch.begun)
        batch.alarm = loop.call_later(self._timeout_s, self._give_up, batch)
        self._running.add(batch)
        future = self._executor.submit(run, self.stage, [share.windows() for share in shares])
        future.add_done_callback(partial(self._hand_over, loop, batch))

    def _hand_over(self, loop: asyncio.AbstractEventLoop, batch: _Batch, future: Future[Ran]) -> None:
        """On the thread that ran a batch: gives the outcome to the event loop."""
        with suppress(RuntimeError):  # The loop was closed, and everybody who waited went with it.
            loop.call_soon_threadsafe(self._finish, loop, batch, future)

    def _finish(self, loop: asyncio.AbstractEventLoop, batch: _Batch, future: Future[Ran]) -> None:
        """Answers the requests that are complete, and puts the free thread to work again."""
        ended = loop.time()
        self._running.remove(batch)
        if batch.alarm:
            batch.alarm.cancel()
        error = future.exception()
        if error is None:
            self._deliver(batch, future.result())
        else:  # No error of the stage, which run() keeps, but, say, a SystemExit.
            for share in batch.shares:
                share.job.fail(stage_error(self.stage, error))
        if not batch.overdue:
            self._judge(failed=error is not None or future.result().failed)
        self._dispatch(loop)
        self._settle()
        if error is None:
            self._measure(batch, future.result(), ended)

    def _deliver(self, batch: _Batch, ran: Ran) -> None:
        for share, result in zip(batch.shares, ran.results, strict=True):
            job = share.job
            if isinstance(result, errors.CascadeError):
                job.fail(result)
                continue
            job.started, job.ended = min(job.started, ran.started), max(job.ended, ran.ended)
            job.scores.update(zip(share.indices, result, strict=True))
            if len(job.scores) == len(job.windows) and not job.done.done():
                job.done.set_result(None)

    def _measure(self, batch: _Batch, ran: Ran, ended: float) -> None:
        seconds = ran.ended - ran.started
        if not ran.failed:  # what counts is how long it had the thread, the ways to it and back included
            self._pace.add(batch.work, ended - batch.begun, ended)
        if self.on_batch:
            lengths = [len(window) for share in batch.shares for window in share.windows()]
            sizes = len(batch.shares), len(lengths), sum(lengths), max(lengths) * len(lengths)
            self.on_batch(BatchStats(*sizes, 1e3 * seconds, 1e3 * ran.cpu))

    def _settle(self) -> None:
        if not self._queue and all(batch.overdue for batch in self._running):
            self._idle.set()

    def _give_up(self, batch: _Batch) -> None:
        """A batch takes too long: whoever waits for it hears so. Its thread cannot be stopped, and stays taken."""
        batch.overdue = True
        for share in batch.shares:
            share.job.fail(errors.StageError(f"{self.stage.info.name}: no answer within {self._timeout_s:g} s"))
        self._judge(failed=True, at_once=True)
        self._settle()

    def _judge(self, *, failed: bool, at_once: bool = False) -> None:
        """Keeps the breaker's books of a batch; if it opens, nobody waits for the stage any longer."""
        if not failed:
            self.breaker.succeeded()
        elif self.breaker.failed(at_once=at_once):
            for job in self._queue.jobs():
                job.fail(self.breaker.refusal())

    def _probe(self) -> asyncio.Future[None] | None:
        """Asks the stage something harmless, if it has a thread free."""
        if len(self._running) == self._threads:
            return None
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        try:
            job = Job(self.stage.encode(PROBE).windows, answer)
        except Exception as error:  # noqa: BLE001 - whatever a stage raises, it has failed
            answer.set_exception(stage_error(self.stage, error))
        else:
            self._idle.clear()
            self._start(loop, [Share(job, list(range(len(job.windows))))])
        return answer


def _retry_s(ahead_s: float) -> float:
    """When to come again, in seconds, to find what is ahead now done."""
    least, most = RETRY_AFTER_S
    return min(max(ahead_s, least), most)
