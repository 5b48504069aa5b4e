"""The batcher under load, under failure, and when nobody waits any more."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from cascade.batching import Batcher, BatchStats
from cascade.errors import (
    DeadlineError,
    DeadlineTooShortError,
    LimitExceededError,
    OverloadedError,
    StageError,
    UnavailableError,
)
from cascade.execution import NICENESS
from cascade.queueing import PADDING
from stages.stage import Window, WindowScores
from tests.fakes import FakeStage


def windows(*lengths: int, first: int = 100) -> list[Window]:
    """Windows of the given lengths, each with a first token of its own."""
    return [Window((first + number, *[7] * (length - 1)), 0, 1) for number, length in enumerate(lengths)]


class Gate(FakeStage):
    """A stage whose calls wait until the gate is opened; it scores a window by its first token."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        self.entered.release()
        assert self.opened.wait(10)
        super().score(windows)
        return [WindowScores(float(window.ids[0]), self._score(window).labels) for window in windows]

    async def running(self) -> None:
        """Returns when one more call of ``score`` has begun."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


def firsts(call: Sequence[Window]) -> list[int]:
    return [window.ids[0] for window in call]


async def settled() -> None:
    """Lets everything that is ready on the loop run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_scores_come_in_the_order_of_the_windows() -> None:
    stage = Gate()
    stage.opened.set()
    batcher = Batcher(stage, threads=2, max_tokens_per_batch=40)
    batched = await batcher.score(windows(3, 30, 9, 30, 4, 12, 3, 8))
    assert [score.unsafe for score in batched.scores] == [100, 101, 102, 103, 104, 105, 106, 107]
    assert sum(len(call) for call in stage.calls) == 8
    await batcher.close()


async def test_many_callers_each_get_their_own_scores() -> None:
    stage = Gate()
    stage.opened.set()
    batcher = Batcher(stage, threads=3, max_tokens_per_batch=64)

    async def call(number: int) -> None:
        mine = windows(*(2 + (number * step) % 23 for step in range(1, 1 + number % 5)), first=1000 * number)
        batched = await batcher.score(mine)
        assert [score.unsafe for score in batched.scores] == firsts(mine)
        assert batched.queue_ms >= 0
        assert batched.infer_ms >= 0

    await asyncio.gather(*(call(number) for number in range(300)))
    assert batcher.queued_windows == 0
    await batcher.close()


async def test_what_queued_while_a_batch_ran_goes_together() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    first = asyncio.create_task(batcher.score(windows(5, first=1)))
    await stage.running()
    others = [asyncio.create_task(batcher.score(windows(5, first=number))) for number in range(2, 6)]
    await settled()
    assert batcher.queued_windows == 4
    stage.opened.set()
    await asyncio.gather(first, *others)
    assert [firsts(call) for call in stage.calls] == [[1], [2, 3, 4, 5]]
    await batcher.close()


async def test_batches_keep_to_the_token_budget_and_to_nearly_one_length() -> None:
    stage = Gate()
    seen: list[BatchStats] = []
    batcher = Batcher(stage, max_tokens_per_batch=100, on_batch=seen.append)
    lengths = [1 + (37 * number) % 60 for number in range(200)]
    tasks = [asyncio.create_task(batcher.score(windows(length, first=number))) for number, length in enumerate(lengths)]
    await settled()
    stage.opened.set()
    await asyncio.gather(*tasks)
    assert sorted(token for call in stage.calls for token in firsts(call)) == list(range(200))
    for call, stats in zip(stage.calls, seen, strict=True):
        longest, real = max(map(len, call)), sum(map(len, call))
        assert longest * len(call) <= 100
        assert longest * len(call) <= PADDING * real
        assert (stats.windows, stats.tokens, stats.padded_tokens) == (len(call), real, longest * len(call))
    assert len(stage.calls) < 200
    await batcher.close()


async def test_a_window_above_the_budget_is_scored_alone() -> None:
    stage = FakeStage()
    batcher = Batcher(stage, max_tokens_per_batch=10)
    await batcher.score(windows(50, 50))
    assert [len(call) for call in stage.calls] == [1, 1]
    await batcher.close()


async def test_a_book_does_not_hold_up_a_sentence() -> None:
    stage = Gate()
    batcher = Batcher(stage, max_tokens_per_batch=20)
    book = asyncio.create_task(batcher.score(windows(*[10] * 40, first=1000)))
    await stage.running()
    sentence = asyncio.create_task(batcher.score(windows(3, first=1)))
    await settled()
    stage.opened.set()
    await sentence
    assert not book.done()
    await book
    assert [1] in [firsts(call) for call in stage.calls[:3]]
    await batcher.close()


async def test_free_threads_share_what_waits() -> None:
    stage = Gate()
    batcher = Batcher(stage, threads=2, max_tokens_per_batch=1000)
    task = asyncio.create_task(batcher.score(windows(8, 8)))
    await stage.running()
    await stage.running()
    stage.opened.set()
    await task
    assert [len(call) for call in stage.calls] == [1, 1]
    await batcher.close()


async def test_a_cancelled_caller_leaves_the_queue_at_once_and_is_never_scored() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    running = asyncio.create_task(batcher.score(windows(5, first=1)))
    await stage.running()
    leaver, stayer = (asyncio.create_task(batcher.score(windows(5, 5, first=first))) for first in (10, 20))
    await settled()
    assert batcher.queued_windows == 4
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert batcher.queued_windows == 2
    stage.opened.set()
    await asyncio.gather(running, stayer)
    assert [sorted(firsts(call)) for call in stage.calls] == [[1], [20, 21]]
    await batcher.close()


async def test_a_caller_cancelled_just_before_its_turn_is_never_scored() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    running = asyncio.create_task(batcher.score(windows(5, first=1)))
    await stage.running()
    leaver = asyncio.create_task(batcher.score(windows(5, first=2)))
    await settled()
    stage.opened.set()
    time.sleep(0.1)  # noqa: ASYNC251 - the end of the batch is the first thing that the loop will see
    leaver.cancel()
    assert len((await running).scores) == 1
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await batcher.close()
    assert [firsts(call) for call in stage.calls] == [[1]]


async def test_a_caller_cancelled_in_mid_batch_harms_nobody() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    opener = asyncio.create_task(batcher.score(windows(9, first=0)))
    await stage.running()
    leaver, stayer = (asyncio.create_task(batcher.score(windows(5, first=first))) for first in (1, 2))
    await settled()
    stage.opened.set()
    await opener
    stage.opened.clear()
    leaver.cancel()
    stage.opened.set()
    assert [score.unsafe for score in (await stayer).scores] == [2]
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await batcher.close()


async def test_a_deadline_that_passes_in_the_queue() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    running = asyncio.create_task(batcher.score(windows(5, first=1)))
    await stage.running()
    started = time.perf_counter()
    with pytest.raises(DeadlineError):
        await batcher.score(windows(5, first=2), deadline=asyncio.get_running_loop().time() + 0.05)
    assert time.perf_counter() - started < 5, "the answer waits for the deadline, not for the running batch"
    assert batcher.queued_windows == 0
    stage.opened.set()
    await running
    assert [firsts(call) for call in stage.calls] == [[1]]
    await batcher.close()


async def test_a_deadline_that_passes_while_its_batch_runs() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    with pytest.raises(DeadlineError):
        await batcher.score(windows(5), deadline=asyncio.get_running_loop().time() + 0.05)
    stage.opened.set()
    assert len((await batcher.score(windows(5))).scores) == 1
    await batcher.close()


async def test_a_deadline_that_has_passed_already_is_never_scored() -> None:
    stage = FakeStage()
    batcher = Batcher(stage)
    with pytest.raises(DeadlineError):
        await batcher.score(windows(5), deadline=asyncio.get_running_loop().time() - 1)
    assert stage.calls == []
    await batcher.close()


async def test_a_late_loop_drops_more_dead_requests_than_it_looks_at_in_one_go() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(batcher.score(windows(5)))
    await stage.running()
    dead = [asyncio.create_task(batcher.score(windows(5), deadline=loop.time() + 0.2)) for _ in range(600)]
    alive = asyncio.create_task(batcher.score(windows(5, first=9)))
    await settled()
    time.sleep(0.3)  # noqa: ASYNC251 - the loop is held up, so its timers come late
    stage.opened.set()
    under_way, batcher._running = batcher._running, set()  # as if the batch had ended just now, before the timers
    batcher._dispatch(loop)
    batcher._running |= under_way
    assert batcher.queued_windows == 0
    assert all(isinstance(error, DeadlineError) for error in await asyncio.gather(*dead, return_exceptions=True))
    await asyncio.gather(running, alive)
    await batcher.close()


async def test_a_failing_stage_fails_its_callers_and_recovers() -> None:
    stage = FakeStage(fail=lambda call: ValueError("a text") if len(stage.calls) == 1 else None)
    batcher = Batcher(stage)
    with pytest.raises(StageError, match="fake-tinysafe failed: ValueError") as caught:
        await batcher.score(windows(5))
    assert "a text" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    assert len((await batcher.score(windows(5))).scores) == 1
    await batcher.close()


async def test_cascades_own_errors_arrive_as_they_are() -> None:
    batcher = Batcher(FakeStage(fail=lambda call: UnavailableError("the other machine is down")))
    with pytest.raises(UnavailableError, match="other machine"):
        await batcher.score(windows(5))
    await batcher.close()


async def test_one_requests_trouble_stays_its_own() -> None:
    stage = Gate(fail=lambda call: StageError("not finite") if 66 in firsts(call) else None)
    batcher = Batcher(stage)
    running = asyncio.create_task(batcher.score(windows(5, first=1)))
    await stage.running()
    tasks = [asyncio.create_task(batcher.score(windows(5, first=first))) for first in (55, 66, 77)]
    await settled()
    stage.opened.set()
    good, bad, fine = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(bad, StageError)
    assert [[score.unsafe for score in batched.scores] for batched in (good, fine)] == [[55], [77]]  # type: ignore[union-attr]
    await running
    await batcher.close()


async def test_a_failure_that_comes_when_the_caller_has_gone() -> None:
    stage = Gate(fail=lambda call: StageError("no") if 1 in firsts(call) else None)
    batcher = Batcher(stage)
    leaver = asyncio.create_task(batcher.score(windows(5, first=1)))
    await stage.running()
    stayer = asyncio.create_task(batcher.score(windows(5, first=2)))
    await settled()
    leaver.cancel()
    await settled()
    stage.opened.set()
    assert len((await asyncio.wait_for(stayer, 5)).scores) == 1
    await batcher.close()


async def test_the_rest_of_a_failed_request_is_not_scored() -> None:
    stage = FakeStage(fail=lambda call: StageError("no"))
    batcher = Batcher(stage, max_tokens_per_batch=10)
    with pytest.raises(StageError):
        await batcher.score(windows(*[10] * 50))
    await batcher.close()
    assert len(stage.calls) == 1


async def test_a_stage_that_ends_its_thread_hangs_nobody() -> None:
    stage = FakeStage(fail=lambda call: SystemExit(1) if len(stage.calls) == 1 else None)
    batcher = Batcher(stage)
    with pytest.raises(StageError, match="SystemExit"):
        await asyncio.wait_for(batcher.score(windows(5)), 5)
    assert len((await batcher.score(windows(5))).scores) == 1
    await batcher.close()


async def test_a_stage_that_loses_scores_is_found_out() -> None:
    class Lossy(FakeStage):
        def score(self, windows: Sequence[Window]) -> list[WindowScores]:
            return super().score(windows)[:-1]

    batcher = Batcher(Lossy())
    with pytest.raises(StageError, match="1 scores for 2 windows"):
        await batcher.score(windows(5, 5))
    await batcher.close()


async def test_a_full_queue_says_when_to_come_back() -> None:
    stage = Gate()
    batcher = Batcher(stage, max_queued_windows=4)
    running = asyncio.create_task(batcher.score(windows(5)))
    await stage.running()
    waiting = asyncio.create_task(batcher.score(windows(5, 5, 5)))
    await settled()
    with pytest.raises(OverloadedError) as caught:
        await batcher.score(windows(5, 5))
    assert 0.05 <= caught.value.retry_after_s <= 30
    stage.opened.set()
    assert len((await batcher.score(windows(5))).scores) == 1  # what fits is taken
    await asyncio.gather(running, waiting)
    assert len((await batcher.score(windows(5, 5, 5, 5))).scores) == 4  # there is room again
    await batcher.close()


async def test_bulk_work_that_fills_its_queue_leaves_room_for_the_rest() -> None:
    stage = Gate()
    batcher = Batcher(stage, max_queued_windows=4)
    running = asyncio.create_task(batcher.score(windows(5)))
    await stage.running()
    bulk = asyncio.create_task(batcher.score(windows(5, 5, 5, 5, first=10), bulk=True))
    await settled()
    with pytest.raises(OverloadedError):
        await batcher.score(windows(5), bulk=True)
    rest = asyncio.create_task(batcher.score(windows(5, first=20)))
    await settled()
    stage.opened.set()
    await asyncio.gather(running, bulk, rest)
    assert [firsts(call) for call in stage.calls][1] == [20]
    await batcher.close()


async def test_a_deadline_that_what_waits_leaves_no_room_for_is_refused_at_once() -> None:
    stage = FakeStage(delay_s=0.3)
    batcher = Batcher(stage)
    loop = asyncio.get_running_loop()
    await batcher.score(windows(10))  # the pace is known now
    busy = [asyncio.create_task(batcher.score(windows(length))) for length in (10, 20, 30, 40)]
    await settled()
    with pytest.raises(DeadlineTooShortError) as caught:
        await batcher.score(windows(50), deadline=loop.time() + 0.2)
    assert 0.05 <= caught.value.retry_after_s <= 30
    late = asyncio.create_task(batcher.score(windows(60), deadline=loop.time() + 60))
    await asyncio.gather(*busy, late)
    assert len(stage.calls) == 1 + len(busy) + 1, "what has time is scored"
    await batcher.close()


async def test_an_idle_stage_tries_whatever_deadline_there_is() -> None:
    stage = FakeStage(delay_s=0.5)
    batcher = Batcher(stage, threads=2)
    await batcher.score(windows(10))
    stage.delay_s = 0.0  # it was slow once: nobody is to suffer from that
    deadline = asyncio.get_running_loop().time() + 0.2
    assert len((await batcher.score(windows(10), deadline=deadline)).scores) == 1
    await batcher.close()


async def test_the_backlog_is_told_in_seconds_and_by_caller() -> None:
    stage = Gate()
    batcher = Batcher(stage, max_tokens_per_batch=100)
    stage.opened.set()
    await batcher.score(windows(10))
    stage.opened.clear()
    await stage.running()
    running = asyncio.create_task(batcher.score(windows(10)))
    await stage.running()
    waiting = [asyncio.create_task(batcher.score(windows(10), caller=caller)) for caller in ("a", "a", "b")]
    waiting.append(asyncio.create_task(batcher.score(windows(10), bulk=True)))
    await settled()
    seen = {caller: batcher.backlog(caller) for caller in ("a", "b", "c")}
    bulk = batcher.backlog("a", bulk=True)
    a, b, c = seen.values()
    assert a.own_s == pytest.approx(2 * b.own_s, rel=0.2)
    assert b.own_s > 0
    assert (c.own_s, c.callers, b.callers) == (0.0, 3, 2)
    assert c.waiting_s == pytest.approx(a.own_s + b.own_s, rel=0.2)
    assert bulk.waiting_s == pytest.approx(c.waiting_s * 4 / 3, rel=0.2)
    stage.opened.set()
    await asyncio.gather(running, *waiting)
    assert batcher.backlog("a").waiting_s == 0.0
    await batcher.close()


async def test_a_short_text_is_not_refused_for_long_ones_that_it_goes_before() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    stage.opened.set()
    for _ in range(20):
        await batcher.score(windows(20))
        await stage.running()
    stage.opened.clear()
    running = asyncio.create_task(batcher.score(windows(20)))
    await stage.running()
    books = [asyncio.create_task(batcher.score(windows(*[200] * 4))) for _ in range(20)]
    await settled()
    found = batcher.backlog()
    assert found.all_s > 0.0
    assert found.waiting_s == found.own_s == found.ahead_s == 0.0
    stage.opened.set()
    await asyncio.gather(running, *books)
    await batcher.close()


async def test_under_pressure_what_is_long_no_longer_gives_way() -> None:
    stage = Gate()
    batcher = Batcher(stage, max_tokens_per_batch=100)
    batcher.pressure = 1.0
    running = asyncio.create_task(batcher.score(windows(10)))
    await stage.running()
    waiting = [asyncio.create_task(batcher.score(windows(length))) for length in (200, 20)]
    await settled()
    stage.opened.set()
    await asyncio.gather(running, *waiting)
    assert [len(window) for call in stage.calls for window in call] == [10, 200, 20]
    await batcher.close()


async def test_what_never_fits_is_told_so() -> None:
    batcher = Batcher(FakeStage(), max_queued_windows=4)
    with pytest.raises(LimitExceededError, match="limit of 4"):
        await batcher.score(windows(*[5] * 5))
    await batcher.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a priority is a thread's own on Linux alone")
async def test_scoring_gives_way_to_the_event_loop() -> None:
    found = []

    class Told(FakeStage):
        def score(self, windows: Sequence[Window]) -> list[WindowScores]:
            found.append(os.getpriority(os.PRIO_PROCESS, 0))
            return super().score(windows)

    batcher = Batcher(Told())
    await batcher.score(windows(3))
    await batcher.close()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert found == [min(19, own + NICENESS)]
    assert own == os.getpriority(os.PRIO_PROCESS, os.getpid()), "the process itself stays as it is"


async def test_draining_answers_what_was_taken_and_takes_nothing_new() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    tasks = [asyncio.create_task(batcher.score(windows(5, first=first))) for first in range(5)]
    await stage.running()
    drained = asyncio.create_task(batcher.drain())
    await settled()
    with pytest.raises(UnavailableError):
        await batcher.score(windows(5))
    assert not drained.done()
    stage.opened.set()
    await drained
    assert [batched.scores[0].unsafe for batched in await asyncio.gather(*tasks)] == [0, 1, 2, 3, 4]
    await batcher.close()


async def test_closing_refuses_what_waits_and_lets_the_running_batch_end() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    running = asyncio.create_task(batcher.score(windows(5, first=1)))
    await stage.running()
    waiting = asyncio.create_task(batcher.score(windows(5, first=2)))
    await settled()
    closed = asyncio.create_task(batcher.close())
    with pytest.raises(UnavailableError):
        await waiting
    assert not closed.done()
    stage.opened.set()
    await closed
    assert len((await running).scores) == 1
    assert [firsts(call) for call in stage.calls] == [[1]]
    await batcher.close()  # once more does no harm


async def test_times_are_split_into_waiting_and_scoring() -> None:
    stage = Gate()
    batcher = Batcher(stage)
    started = time.perf_counter()
    running = asyncio.create_task(batcher.score(windows(5)))
    await stage.running()
    waiting = asyncio.create_task(batcher.score(windows(9)))
    await settled()
    await asyncio.sleep(0.05)
    stage.opened.set()
    first, second = await asyncio.gather(running, waiting)
    whole = 1e3 * (time.perf_counter() - started)
    assert first.infer_ms >= 49
    assert second.queue_ms >= 49
    assert max(first.queue_ms + first.infer_ms, second.queue_ms + second.infer_ms) <= whole
    await batcher.close()


async def test_the_time_of_scoring_spans_all_batches_of_a_request() -> None:
    batcher = Batcher(FakeStage(delay_s=0.03), max_tokens_per_batch=10)
    batched = await batcher.score(windows(10, 10, 10))
    assert batched.infer_ms >= 89
    await batcher.close()


async def test_an_idle_call_makes_one_thread_hop() -> None:
    threads = []

    class Noting(FakeStage):
        def score(self, windows: Sequence[Window]) -> list[WindowScores]:
            threads.append(threading.current_thread())
            return super().score(windows)

    batcher = Batcher(Noting(), threads=4)
    before = threading.active_count()
    for _ in range(50):
        await batcher.score(windows(5))
    assert threading.main_thread() not in threads
    assert threading.active_count() - before <= 4
    await batcher.close()


async def test_no_windows_are_no_work() -> None:
    stage = FakeStage()
    batcher = Batcher(stage)
    assert (await batcher.score([])).scores == []
    assert stage.calls == []
    await batcher.close()


async def test_chaos() -> None:
    """Short deadlines, cancellations and failures in any mixture: each caller hears, nothing is left behind."""
    stage = FakeStage(fail=lambda call: RuntimeError() if call[0].ids[0] % 7 == 0 else None, delay_s=0.0005)
    batcher = Batcher(stage, threads=2, max_tokens_per_batch=50, max_queued_windows=300)
    loop = asyncio.get_running_loop()

    async def call(number: int) -> str:
        await asyncio.sleep((number % 97) / 2000)
        deadline = loop.time() + (number % 13) / 500 if number % 3 == 0 else None
        task = asyncio.create_task(
            batcher.score(windows(*[3 + number % 20] * (1 + number % 6), first=number), deadline=deadline)
        )
        if number % 5 == 0:
            loop.call_later((number % 11) / 1000, task.cancel)
        try:
            return type(await task).__name__
        except (asyncio.CancelledError, DeadlineError, StageError, OverloadedError) as error:
            return type(error).__name__

    outcomes = await asyncio.wait_for(asyncio.gather(*(call(number) for number in range(1000))), 60)
    assert {"Batched", "CancelledError", "DeadlineError", "StageError"} <= set(outcomes)
    assert batcher.queued_windows == 0
    assert len((await batcher.score(windows(5, first=1))).scores) == 1
    await asyncio.wait_for(batcher.close(), 5)
