"""Feeds a stage from many requests at once: *windows* -> queue -> batch -> executor thread -> *scores*.

There is no timer. A free thread takes at once what is queued; while all are busy the queue grows, and with it the next
batch. So an idle server adds one thread hop to a request, and a busy one fills its batches. What a batch is made of is
told in :mod:`cascade.queueing`.

All state belongs to the event loop's thread; the executor's threads see only the windows that they score. A batcher
belongs to the one event loop on which it is used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from cascade import errors
from cascade.queueing import Job, Share, WindowQueue
from stages.stage import Stage, Window, WindowScores

SMOOTHING = 0.1  # weight of the newest batch in the measured time per window
RETRY_AFTER_S = (0.05, 30.0)  # the shortest and the longest wait that is asked for


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


@dataclass(frozen=True, slots=True)
class _Ran:
    """What a thread did with a batch: scores or an error for each share, and when, in seconds."""

    results: list[list[WindowScores] | errors.CascadeError]
    started: float
    ended: float


class Batcher:
    """Scores windows on a stage, many requests at once, on threads of its own."""

    def __init__(
        self,
        stage: Stage,
        *,
        threads: int = 1,
        max_tokens_per_batch: int = 1024,
        max_queued_windows: int = 8192,
        on_batch: Callable[[BatchStats], None] | None = None,
    ) -> None:
        """Starts nothing yet: the threads come with the first windows.

        Args:
            stage: what scores.
            threads: batches that run at the same time.
            max_tokens_per_batch: windows times the length of the longest. On a CPU a batch costs nearly what its
                windows cost one by one, so a small budget only keeps the wait behind a running batch short.
            max_queued_windows: windows that may wait; also the most of one request.
            on_batch: called on the event loop after each batch; may also be set later.
        """
        self.stage = stage
        self.on_batch = on_batch
        self._threads = threads
        self._budget = max_tokens_per_batch
        self._max_queued = max_queued_windows
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"cascade-{stage.info.kind}")
        self._queue = WindowQueue()
        self._running = 0
        self._seconds_per_window = 0.01
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

    async def score(self, windows: Sequence[Window], *, deadline: float | None = None) -> Batched:
        """Scores windows, in order. ``deadline`` is a time of the event loop's clock.

        Raises:
            DeadlineError: the deadline passed first.
            LimitExceededError: there are more windows than the queue ever holds.
            OverloadedError: there is no room for them in the queue now.
            StageError: the stage failed on them.
            UnavailableError: the batcher is closed.
        """
        self._admit(len(windows))
        if not windows:
            return Batched([], 0.0, 0.0)
        loop = asyncio.get_running_loop()
        job = Job(windows, loop.create_future(), deadline)
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
        await self._idle.wait()

    async def close(self) -> None:
        """Takes nothing new, refuses what waits, lets the running batches end, and stops the threads."""
        self._open = False
        for job in self._queue.jobs():
            job.fail(errors.UnavailableError("the service is stopping"))
        await self._idle.wait()
        self._executor.shutdown()

    def _admit(self, count: int) -> None:
        if not self._open:
            raise errors.UnavailableError("the service is stopping")
        if count > self._max_queued:
            raise errors.LimitExceededError("windows of text", self._max_queued)
        if self._queue.windows + count > self._max_queued:
            wait_s = self._queue.windows * self._seconds_per_window / self._threads
            least, most = RETRY_AFTER_S
            raise errors.OverloadedError("too many texts wait to be scored", min(max(wait_s, least), most))

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives a batch to each free thread, as long as something waits."""
        while self._queue and (free := self._threads - self._running):
            if batch := self._queue.take(self._budget, free, loop.time()):
                self._running += 1
                future = self._executor.submit(_run, self.stage, [share.windows() for share in batch])
                future.add_done_callback(partial(self._hand_over, loop, batch))

    def _hand_over(self, loop: asyncio.AbstractEventLoop, batch: list[Share], future: Future[_Ran]) -> None:
        """On the thread that ran a batch: gives the outcome to the event loop."""
        with suppress(RuntimeError):  # The loop was closed, and everybody who waited went with it.
            loop.call_soon_threadsafe(self._finish, loop, batch, future)

    def _finish(self, loop: asyncio.AbstractEventLoop, batch: list[Share], future: Future[_Ran]) -> None:
        """Answers the requests that are complete, and puts the free thread to work again."""
        self._running -= 1
        error = future.exception()
        if error is None:
            self._deliver(batch, future.result())
        else:  # No error of the stage, which _run keeps, but, say, a SystemExit.
            for share in batch:
                share.job.fail(_stage_error(self.stage, error))
        self._dispatch(loop)
        self._settle()
        if error is None:
            self._measure(batch, future.result())

    def _deliver(self, batch: list[Share], ran: _Ran) -> None:
        for share, result in zip(batch, ran.results, strict=True):
            job = share.job
            if isinstance(result, errors.CascadeError):
                job.fail(result)
                continue
            job.started, job.ended = min(job.started, ran.started), max(job.ended, ran.ended)
            job.scores.update(zip(share.indices, result, strict=True))
            if len(job.scores) == len(job.windows) and not job.done.done():
                job.done.set_result(None)

    def _measure(self, batch: list[Share], ran: _Ran) -> None:
        lengths = [len(share.job.windows[index]) for share in batch for index in share.indices]
        seconds = ran.ended - ran.started
        self._seconds_per_window += SMOOTHING * (seconds / len(lengths) - self._seconds_per_window)
        if self.on_batch:
            padded = max(lengths) * len(lengths)
            self.on_batch(BatchStats(len(batch), len(lengths), sum(lengths), padded, 1e3 * seconds))

    def _settle(self) -> None:
        if not self._running and not self._queue:
            self._idle.set()


def _run(stage: Stage, batch: list[list[Window]]) -> _Ran:
    """On a thread: scores a batch, or, if that fails, each request's share by itself: its trouble stays its own."""
    started = time.perf_counter()
    windows = list(chain.from_iterable(batch))
    results: list[list[WindowScores] | errors.CascadeError]
    try:
        scores = stage.score(windows)
        if len(scores) != len(windows):
            missing = f"{stage.info.name} gave {len(scores)} scores for {len(windows)} windows. This is a bug."
            raise errors.StageError(missing)
        rest = iter(scores)
        results = [list(islice(rest, len(share))) for share in batch]
    except Exception as error:  # noqa: BLE001 - whatever a stage raises must reach those who wait for it
        alone = len(batch) == 1
        results = [_stage_error(stage, error)] if alone else [_run(stage, [share]).results[0] for share in batch]
    return _Ran(results, started, time.perf_counter())


def _stage_error(stage: Stage, error: BaseException) -> errors.CascadeError:
    """The error itself if it is Cascade's own, else a StageError that it caused."""
    if isinstance(error, errors.CascadeError):
        return error
    wrapped = errors.StageError(f"{stage.info.name} failed: {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped
