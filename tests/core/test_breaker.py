"""A stage that fails: who hears of it, when it is no longer asked, and how it comes back by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from math import inf, nan

import numpy as np
import pytest

from cascade import breaker
from cascade.batching import Batcher
from cascade.breaker import FAILURES
from cascade.errors import BreakerOpenError, ModelError, StageError, StageUnavailableError
from stages.stage import Window, WindowScores
from tests.fakes import FakeStage, word_id

POISON = word_id("poison")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes come at once after each other."""
    monkeypatch.setattr(breaker, "PROBE_S", (0.01, 0.02))


class Patient(FakeStage):
    """A stage that has a fault as long as ``error`` is set; ``down`` faults on everything, else on poison alone."""

    def __init__(self) -> None:
        super().__init__(fail=self.fault)
        self.error: BaseException | None = None
        self.down = True

    def fault(self, windows: Sequence[Window]) -> BaseException | None:
        sick = self.down or any(POISON in window.ids for window in windows)
        return self.error if sick else None


async def ask(batcher: Batcher, text: str = "hello") -> object:
    """What a request gets: its scores, or the error's class."""
    try:
        return len((await batcher.score(batcher.stage.encode(text).windows)).scores)
    except StageError as error:
        return type(error)


class Listener:
    """Hears of a breaker and waits until it has said something."""

    def __init__(self, batcher: Batcher) -> None:
        self.heard: list[bool] = []
        self._news = asyncio.Event()
        batcher.breaker.listeners["test"] = self._hear

    def _hear(self, asked: bool) -> None:
        self.heard.append(asked)
        self._news.set()

    async def until(self, asked: bool) -> None:
        async with asyncio.timeout(30):
            while not self.heard or self.heard[-1] is not asked:
                self._news.clear()
                await self._news.wait()


@pytest.mark.parametrize("error", [RuntimeError("a text"), MemoryError(), StageUnavailableError("nobody there")])
async def test_after_some_failures_in_a_row_it_is_not_asked_until_it_answers_a_probe(error: Exception) -> None:
    stage = Patient()
    batcher = Batcher(stage)
    listener = Listener(batcher)
    stage.error = error
    outcomes = [await ask(batcher) for _ in range(FAILURES + 1)]
    kind = type(error) if isinstance(error, StageError) else StageError
    assert outcomes == [kind] * FAILURES + [BreakerOpenError]
    calls = len(stage.calls)
    assert [await ask(batcher) for _ in range(100)] == [BreakerOpenError] * 100
    assert len(stage.calls) - calls < 50, "only probes, which come at growing intervals"
    stage.error = None
    await listener.until(True)
    assert (await ask(batcher), listener.heard) == (1, [False, True])
    await batcher.close()


async def test_a_success_in_between_starts_the_count_anew() -> None:
    stage = Patient()
    stage.down = False
    stage.error = RuntimeError()
    batcher = Batcher(stage)
    for _ in range(3):
        assert [await ask(batcher, "poison") for _ in range(FAILURES - 1)] == [StageError] * (FAILURES - 1)
        assert await ask(batcher) == 1
    assert not batcher.breaker.is_open
    await batcher.close()


async def test_texts_that_break_a_stage_do_not_take_it_from_others() -> None:
    stage = Patient()
    stage.down = False
    stage.error = RuntimeError()
    batcher = Batcher(stage)
    listener = Listener(batcher)
    for _ in range(FAILURES):
        assert await ask(batcher, "poison") is StageError
    await listener.until(True)  # the very first probe is answered
    assert await ask(batcher) == 1
    await batcher.close()


async def test_a_mistake_of_the_caller_is_no_failure_of_the_stage() -> None:
    stage = Patient()
    stage.error = ModelError("no such adapter")
    batcher = Batcher(stage)
    for _ in range(3 * FAILURES):
        with pytest.raises(ModelError):
            await batcher.score(stage.encode("hello").windows)
    assert not batcher.breaker.is_open
    await batcher.close()


async def test_whoever_waits_hears_at_once_that_the_stage_is_gone() -> None:
    opened, entered = threading.Event(), threading.Event()

    def hang(windows: Sequence[Window]) -> BaseException | None:
        entered.set()
        return None if opened.wait(60) else TimeoutError()

    batcher = Batcher(FakeStage(fail=hang), timeout_s=0.3)
    listener = Listener(batcher)
    hanging = asyncio.create_task(ask(batcher))
    await asyncio.to_thread(entered.wait, 30)
    waiting = [asyncio.create_task(ask(batcher)) for _ in range(10)]
    assert await asyncio.wait_for(hanging, 30) is StageError
    assert await asyncio.wait_for(asyncio.gather(*waiting), 30) == [BreakerOpenError] * 10
    assert await ask(batcher) is BreakerOpenError
    opened.set()  # the batch ends after all, and its thread takes the probe
    await listener.until(True)
    assert (await ask(batcher), batcher.queued_windows) == (1, 0)
    await asyncio.wait_for(batcher.close(), 30)


async def test_closing_does_not_wait_for_a_batch_that_hangs() -> None:
    opened = threading.Event()
    batcher = Batcher(FakeStage(fail=lambda windows: None if opened.wait(60) else TimeoutError()), timeout_s=0.1)
    assert await ask(batcher) is StageError
    await asyncio.wait_for(batcher.close(), 30)
    opened.set()


@pytest.mark.parametrize("number", [nan, inf, -inf])
@pytest.mark.parametrize("label", [False, True])
async def test_a_score_that_is_no_number_fails_its_request_alone(number: float, label: bool) -> None:
    opened, entered = threading.Event(), threading.Event()

    class Sick(FakeStage):
        def score(self, windows: Sequence[Window]) -> list[WindowScores]:
            entered.set()
            assert opened.wait(60)
            scores = super().score(windows)
            for index, window in enumerate(windows):
                if POISON in window.ids:
                    unsafe, labels = scores[index].unsafe, scores[index].labels
                    sick = np.where(np.arange(len(labels)) == 3, number, labels)
                    scores[index] = WindowScores(unsafe, sick) if label else WindowScores(number, labels)
            return scores

    stage = Sick()
    batcher = Batcher(stage)
    first = asyncio.create_task(ask(batcher))
    await asyncio.to_thread(entered.wait, 30)
    together = [asyncio.create_task(ask(batcher, text)) for text in ("hello", "poison", "there")]
    await asyncio.sleep(0)
    opened.set()
    assert await asyncio.gather(first, *together) == [1, 1, StageError, 1]
    assert [len(call) for call in stage.calls] == [1, 3], "what is known to be at fault is not tried again"
    assert not batcher.breaker.is_open
    await batcher.close()


async def test_a_stage_that_cannot_be_reached_is_not_asked_for_each_request_of_a_batch() -> None:
    opened, entered = threading.Event(), threading.Event()

    def gone(windows: Sequence[Window]) -> BaseException | None:
        entered.set()
        assert opened.wait(60)
        return StageUnavailableError("nobody there")

    stage = FakeStage(fail=gone)
    batcher = Batcher(stage, max_tokens_per_batch=1024)
    tasks = [asyncio.create_task(ask(batcher))]
    await asyncio.to_thread(entered.wait, 30)
    tasks += [asyncio.create_task(ask(batcher)) for _ in range(20)]
    await asyncio.sleep(0)
    opened.set()
    assert set(await asyncio.gather(*tasks)) == {StageUnavailableError}
    assert [len(call) for call in stage.calls] == [1, 20]
    await batcher.close()


async def test_a_stage_that_cannot_even_read_is_probed_until_it_can() -> None:
    class Illiterate(Patient):
        def encode(self, text: str):  # type: ignore[no-untyped-def]
            if self.error:
                raise self.error
            return super().encode(text)

    stage = Illiterate()
    windows = stage.encode("hello").windows
    batcher = Batcher(stage)
    listener = Listener(batcher)
    stage.error = RuntimeError()
    for _ in range(FAILURES):
        with pytest.raises(StageError):
            await batcher.score(windows)
    await asyncio.sleep(0.1)
    assert listener.heard == [False]
    stage.error = None
    await listener.until(True)
    await batcher.close()
