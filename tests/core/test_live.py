"""Pipelines that take each other's place: what a caller holds stays open, and what nobody needs is closed."""

from __future__ import annotations

import asyncio

import pytest

from cascade.errors import PolicyError, StageError, UnavailableError
from cascade.live import Live, prepare
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore
from cascade.v1.check_pb2 import CheckRequest
from tests.fakes import FakeStage, fake_pipeline, fake_policy

REQUEST = CheckRequest(text="a terrible thing")
REVIEW = PolicyStore([fake_policy('[actions]\ncontroversial = "REVIEW"\nunsafe = "REVIEW"\n')])


async def answers(pipeline: Pipeline) -> bool:
    """Whether a pipeline is open."""
    try:
        return not (await pipeline.check(REQUEST)).degraded
    except UnavailableError:
        return False


async def test_what_is_held_stays_open_until_it_is_let_go() -> None:
    first, second = fake_pipeline(), fake_pipeline()
    live = Live(first)
    with live.hold() as held:
        live.commit(second)
        assert live.pipeline is second
        assert held is first
        assert await answers(held)
        with live.hold() as newer:
            assert newer is second
    await live.settled()
    assert not await answers(first)
    assert await answers(second)
    await live.close()
    assert not await answers(second)


async def test_stages_that_newer_pipelines_go_on_with_stay_open() -> None:
    first, third = fake_pipeline(), fake_pipeline()
    second = first.with_policies(REVIEW)
    live = Live(first)
    with live.hold() as held:
        live.commit(second)
        live.commit(third)
        await asyncio.sleep(0)
        assert await answers(held), "the second one was closed, and its stages are the first one's, too"
        assert (await held.check(REQUEST)).action != (await second.check(REQUEST)).action
    await live.settled()
    assert not await answers(first)
    assert not await answers(second)
    assert await answers(third)
    live.commit(third.with_policies(REVIEW))
    await live.settled()
    assert await answers(third)
    await live.close()


async def test_a_candidate_that_fails_leaves_the_current_one_alone() -> None:
    first = fake_pipeline()
    live = Live(first)
    broken = fake_pipeline(FakeStage("tinysafe", fail=lambda windows: RuntimeError("no")))
    with pytest.raises(StageError):
        await prepare(lambda: broken, live)
    assert not await answers(broken)

    def bad() -> Pipeline:
        raise PolicyError(["bad"])

    with pytest.raises(PolicyError):
        await prepare(bad, live)
    unused = await prepare(lambda: first.with_policies(REVIEW), live)
    await live.discard(unused)
    assert await answers(first)
    await live.close()


async def test_a_policy_is_prepared_while_the_queue_is_full() -> None:
    first = fake_pipeline(FakeStage("tinysafe", delay_s=0.05), queue=1)
    live = Live(first)
    waiting = [asyncio.create_task(first.check(REQUEST)) for _ in range(2)]
    await asyncio.sleep(0.01)
    candidate = await prepare(lambda: first.with_policies(REVIEW), live)
    assert await answers(candidate)
    await asyncio.gather(*waiting)
    await live.close()
