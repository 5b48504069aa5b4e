"""Answers that are kept, and computations that are shared, on stages that count what they are asked."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.cache import OVERHEAD, Answers, Kept
from cascade.content import check_request
from cascade.errors import DeadlineError, LimitExceededError, OverloadedError
from cascade.limits import Limits
from cascade.memory import Memory
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore
from cascade.v1.check_pb2 import (
    ROUTE_REASON_AUDITED,
    CheckOptions,
    CheckRequest,
    CheckResponse,
    Conversation,
    StageReport,
    Turn,
)
from stages.stage import Window, WindowScores
from tests.fakes import FakeStage, fake_pipeline, fake_policy


class Held(FakeStage):
    """A stage whose calls wait until it is let go."""

    def __init__(self, kind: str = "tinysafe", **options: object) -> None:
        super().__init__(kind, **options)  # type: ignore[arg-type]
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        self.entered.release()
        assert self.go.wait(20)
        return super().score(windows)

    async def running(self) -> None:
        """Returns when one more call of ``score`` has begun."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=20)


def said(text: str, request_id: str = "", **options: object) -> CheckRequest:
    return CheckRequest(text=text, request_id=request_id, options=CheckOptions(**options))  # type: ignore[arg-type]


def caching(stage1: FakeStage, stage2: FakeStage | None = None, **options: object) -> tuple[Pipeline, Answers]:
    answers = Answers("models")
    return fake_pipeline(stage1, stage2, answers=answers, **options), answers  # type: ignore[arg-type]


def substance(response: CheckResponse) -> CheckResponse:
    """A response without what is the caller's own: its id and the time that was spent for it."""
    copy = CheckResponse()
    copy.CopyFrom(response)
    copy.request_id = ""
    for stage in copy.stages:
        stage.tokenize_ms = stage.queue_ms = stage.infer_ms = 0
    return copy


async def many(pipeline: Pipeline, count: int, text: str = "a fine day", **how: object) -> list[asyncio.Task]:
    """Equal requests with ids of their own, all of which have begun to wait."""
    tasks = [asyncio.create_task(pipeline.check(said(text, f"r{n}"), **how)) for n in range(count)]  # type: ignore[arg-type]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_a_request_that_comes_again_gets_the_kept_answer_under_its_own_id() -> None:
    stage1, stage2 = FakeStage("tinysafe"), FakeStage("hazard")
    pipeline, answers = caching(stage1, stage2)
    first = await pipeline.check(said("a bad day", "one"))
    second = await pipeline.check(said("a bad day", "two"))
    unnamed = await pipeline.check(said("a bad day"))
    assert (first.request_id, second.request_id) == ("one", "two")
    assert len(unnamed.request_id) == 32
    assert substance(first) == substance(second) == substance(unnamed)
    assert (len(stage1.calls), len(stage2.calls)) == (1, 1)
    assert (answers.hits, answers.shared, answers.misses) == (2, 0, 1)
    assert first.stages[0].infer_ms > 0
    assert all(stage.tokenize_ms + stage.queue_ms + stage.infer_ms == 0 for stage in second.stages), "no time was spent"
    await pipeline.close()


async def test_a_kept_answer_is_not_changed_by_who_got_it() -> None:
    pipeline, _ = caching(FakeStage())
    first = await pipeline.check(said("a fine day", "one"))
    before = substance(first)
    first.verdict = 3
    second = await pipeline.check(said("a fine day", "two"))
    second.hazards[0].flagged = True
    assert substance(await pipeline.check(said("a fine day"))) == before
    await pipeline.close()


@pytest.mark.parametrize(
    "other",
    [
        said("a fine Day"),
        said("a fine day "),
        said("a\u200b fine day"),  # the same canonical text, another raw one
        said("a fine day", explain=True),
        said("a fine day", hazards=["hate"]),
        CheckRequest(text="a fine day", policy="strict"),
        check_request("a fine day", ""),
        check_request("", "a fine day"),
        CheckRequest(conversation=Conversation(turns=[Turn(role="user", text="a fine day")])),
        CheckRequest(conversation=Conversation(turns=[Turn(text="a fine"), Turn(text=" day")])),
    ],
    ids=lambda other: str(other).replace("\n", " "),
)
async def test_what_may_be_answered_otherwise_is_judged_by_itself(other: CheckRequest) -> None:
    stage = FakeStage()
    pipeline, answers = caching(stage, policies=[fake_policy(), fake_policy(name="strict")])
    await pipeline.check(said("a fine day"))
    await pipeline.check(other)
    asked = len(stage.calls)
    assert (answers.hits, answers.misses) == (0, 2)
    assert asked > 1
    await pipeline.check(other)
    assert (answers.hits, len(stage.calls)) == (1, asked)
    await pipeline.close()


async def test_the_default_policy_is_the_same_by_name_and_a_new_revision_is_another_one() -> None:
    stage = FakeStage()
    pipeline, answers = caching(stage)
    await pipeline.check(said("a fine day"))
    await pipeline.check(CheckRequest(text="a fine day", policy="default"))
    assert answers.hits == 1
    changed = pipeline.with_policies(PolicyStore([fake_policy("[stage1]\nunsafe_threshold = 0.5")]))
    response = await changed.check(said("a fine day"))
    assert response.policy_revision != fake_policy().revision
    assert (answers.hits, len(stage.calls)) == (1, 2)
    await pipeline.close()


def test_other_models_and_other_processes_have_other_keys() -> None:
    one, two, three = Answers("m1"), Answers("m2"), Answers("m1")
    two._secret = one._secret
    keys = {answers._key(said("hello", "id"), "r1") for answers in (one, two, three)}
    assert len(keys) == 3
    assert one._key(said("hello"), "r1") == one._key(said("hello", "other"), "r1") != one._key(said("hello"), "r2")


async def test_a_request_may_pass_by_and_a_growing_text_does() -> None:
    stage = FakeStage()
    pipeline, answers = caching(stage)
    for _ in range(2):
        await pipeline.check(said("a fine day", bypass_cache=True))
        await pipeline.check(said("a fine day"), memory=Memory())
    assert (len(stage.calls), len(answers.kept)) == (4, 0)
    await pipeline.check(said("a fine day"))
    await pipeline.check(said("a fine day", bypass_cache=True))
    assert (answers.hits, answers.misses, len(stage.calls)) == (0, 1, 6)
    await pipeline.close()


async def test_without_a_cache_everything_is_judged() -> None:
    stage = FakeStage()
    pipeline = fake_pipeline(stage)
    await asyncio.gather(*(pipeline.check(said("a fine day")) for _ in range(3)))
    assert sum(map(len, stage.calls)) == 3
    await pipeline.close()


async def test_an_invalid_request_is_refused_although_its_content_is_known() -> None:
    pipeline, _ = caching(FakeStage(), limits=Limits(max_request_id_bytes=4, max_text_bytes=20))
    await pipeline.check(said("a fine day", "id"))
    with pytest.raises(Exception, match="request_id"):
        await pipeline.check(said("a fine day", "too long"))
    with pytest.raises(LimitExceededError):
        await pipeline.check(said("a fine day " * 3))
    await pipeline.close()


async def test_audits_fall_on_the_same_texts_with_a_cache_and_without() -> None:
    policy = fake_policy("[route]\naudit_rate = 0.2")
    plain = fake_pipeline(policies=[policy])
    cached, _ = caching(FakeStage(), policies=[policy])
    texts = [f"text number {number}" for number in range(60)] * 2

    async def audited(pipeline: Pipeline) -> list[bool]:
        found = [(await pipeline.check(said(text))).route.reason == ROUTE_REASON_AUDITED for text in texts]
        await pipeline.close()
        return found

    without = await audited(plain)
    assert await audited(cached) == without
    assert 2 < sum(without) < 60


async def test_equal_requests_under_way_share_one_computation() -> None:
    stage = Held()
    pipeline, answers = caching(stage)
    tasks = await many(pipeline, 10)
    stage.go.set()
    responses = await asyncio.gather(*tasks)
    assert [response.request_id for response in responses] == [f"r{n}" for n in range(10)]
    assert sum(map(len, stage.calls)) == 1
    assert (answers.hits, answers.shared, answers.misses) == (0, 9, 1)
    assert len({substance(response).SerializeToString() for response in responses}) == 1
    assert [response.stages[0].infer_ms > 0 for response in responses] == [True] + [False] * 9
    await pipeline.close()


@pytest.mark.parametrize("how", [{"caller": "other"}, {"bulk": True}], ids=str)
async def test_only_what_waits_in_the_same_queues_is_shared(how: dict[str, object]) -> None:
    stage = Held()
    pipeline, answers = caching(stage)
    tasks = [*await many(pipeline, 2), *await many(pipeline, 2, **how)]
    stage.go.set()
    await asyncio.gather(*tasks)
    assert (answers.shared, answers.misses) == (2, 2)
    response = await pipeline.check(said("a fine day"), caller="third")
    assert (answers.hits, response.verdict) == (1, 1), "an answer is for everybody"
    await pipeline.close()


@pytest.mark.parametrize(("leaver", "begun"), [(0, 2), (1, 1), (2, 1)])
async def test_who_leaves_leaves_the_others_an_answer(leaver: int, begun: int) -> None:
    stage = Held()
    pipeline, answers = caching(stage)
    tasks = await many(pipeline, 3)
    await stage.running()
    tasks[leaver].cancel()
    await asyncio.wait({tasks[leaver]})
    assert tasks[leaver].cancelled()
    stage.go.set()
    rest = await asyncio.gather(*(task for task in tasks if task is not tasks[leaver]))
    assert [response.verdict for response in rest] == [1, 1]
    assert answers.misses == begun, "anew only where the one who computed has left, and then once"
    assert not answers._under_way
    await pipeline.close()


async def test_the_last_one_who_leaves_ends_the_computation() -> None:
    stage = Held()
    pipeline, answers = caching(stage)
    blocker = await many(pipeline, 1, "another text")
    await stage.running()
    tasks = await many(pipeline, 3)
    assert pipeline.stages["stage1"].queued_windows == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for _ in range(3):
        await asyncio.sleep(0)
    assert pipeline.stages["stage1"].queued_windows == 0
    again = await many(pipeline, 2)  # a new computation, not the one that was cancelled
    stage.go.set()
    await asyncio.gather(*blocker, *again)
    assert (answers.misses, len(answers.kept)) == (3, 2)
    await pipeline.close()


async def test_an_error_is_for_all_who_wait_and_for_nobody_after_them() -> None:
    stage = Held()
    pipeline, answers = caching(stage, queue=1)
    blocker = await many(pipeline, 1, "another text")
    await stage.running()
    waiting = await many(pipeline, 1, "a third text")
    refused = await asyncio.gather(*await many(pipeline, 3), return_exceptions=True)
    assert [type(error) for error in refused] == [OverloadedError] * 3
    stage.go.set()
    await asyncio.gather(*blocker, *waiting)
    assert (await pipeline.check(said("a fine day"))).verdict == 1
    assert not answers._under_way
    await pipeline.close()


async def test_degraded_answers_are_shared_but_never_kept() -> None:
    broken = True
    stage2 = FakeStage("hazard", fail=lambda windows: RuntimeError("out of order") if broken else None)
    stage1 = Held()
    pipeline, answers = caching(stage1, stage2)
    tasks = await many(pipeline, 3, "a bad day")
    stage1.go.set()
    responses = await asyncio.gather(*tasks)
    assert [response.degraded for response in responses] == [True] * 3
    assert (answers.shared, answers.misses, len(answers.kept)) == (2, 1, 0)
    broken = False
    assert not (await pipeline.check(said("a bad day"))).degraded
    assert len(answers.kept) == 1
    await pipeline.close()


async def test_somebody_elses_deadline_is_not_mine() -> None:
    stage = Held()
    pipeline, answers = caching(stage)
    loop = asyncio.get_running_loop()
    (hurried,) = await many(pipeline, 1, deadline=loop.time() + 0.2)
    await stage.running()
    patient = await many(pipeline, 2, deadline=loop.time() + 60)
    with pytest.raises(DeadlineError):
        await hurried
    stage.go.set()
    assert [response.verdict for response in await asyncio.gather(*patient)] == [1, 1]
    assert (answers.shared, answers.misses) == (1, 2), "one of them began anew, the other one went with it"
    await pipeline.close()


async def test_who_joins_keeps_to_a_deadline_of_its_own() -> None:
    stage = Held()
    pipeline, _ = caching(stage)
    loop = asyncio.get_running_loop()
    (patient,) = await many(pipeline, 1)
    (hurried,) = await many(pipeline, 1, deadline=loop.time() + 0.1)
    with pytest.raises(DeadlineError):
        await hurried
    stage.go.set()
    assert (await patient).verdict == 1
    await pipeline.close()


async def test_what_was_degraded_in_a_hurry_is_not_for_who_has_time() -> None:
    answers, begun = Answers("models"), asyncio.Event()
    deadlines = []

    async def compute(deadline: float, degraded: bool) -> CheckResponse:
        deadlines.append(deadline)
        begun.set()
        await asyncio.sleep(0.05)
        return CheckResponse(request_id="x", degraded=degraded)

    loop = asyncio.get_running_loop()
    soon, late = loop.time() + 50, loop.time() + 100

    async def ask(deadline: float, degraded: bool) -> CheckResponse:
        return await answers.answer(
            said("text"), "r", lambda: compute(deadline, degraded), deadline=deadline, scope=None
        )

    hurried = asyncio.create_task(ask(soon, True))
    await begun.wait()
    equal, patient = await asyncio.gather(ask(soon, False), ask(late, False))
    assert (await hurried).degraded
    assert (equal.degraded, patient.degraded) == (True, False)
    assert deadlines == [soon, late]
    assert len(answers.kept) == 0


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    kept = Kept(entries=2, max_bytes=10_000)
    kept.put(b"a", b"1")
    kept.put(b"b", b"2")
    assert kept.get(b"a") == b"1"
    kept.put(b"c", b"3")
    assert [kept.get(key) for key in (b"a", b"b", b"c")] == [b"1", None, b"3"]
    kept.put(b"c", b"4444")
    assert (len(kept), kept.bytes, kept.evicted) == (2, 2 * OVERHEAD + 5, 1)


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    kept = Kept(entries=5, max_bytes=1000)
    kept.put(b"a", b"x" * 2000)
    assert (len(kept), kept.bytes) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 600)), max_size=40))
def test_entries_and_bytes_are_bounded_and_counted_right(puts: list[tuple[int, int]]) -> None:
    kept = Kept(entries=4, max_bytes=2000)
    for key, size in puts:
        kept.put(bytes([key]), b"x" * size)
        assert len(kept) <= 4
        assert kept.bytes == sum(len(answer) + OVERHEAD for answer in kept._answers.values()) <= 2000


def test_the_memory_that_it_takes_is_at_most_what_it_says() -> None:
    answer = CheckResponse(stages=[StageReport(name="stage1")] * 40).SerializeToString()

    def fill(kept: Kept, count: int) -> None:
        for number in range(count):
            kept.put(number.to_bytes(16, "big"), bytes(bytearray(answer)))

    fill(Kept(10, 10_000), 20)  # what the first use of the code costs is not the cache's
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = Kept(entries=1_000_000, max_bytes=2 * 2**20)
        fill(kept, 12_000)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept.evicted > 5_000
    assert 0.5 * 2**20 < kept.bytes <= 2 * 2**20
    assert taken <= kept.bytes
