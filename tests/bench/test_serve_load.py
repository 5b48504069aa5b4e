"""The load generator: arrivals are Poisson's, and a server that stands still is not forgiven."""

from __future__ import annotations

import asyncio
import time
from math import exp, inf

import numpy as np
import pytest

from cascade.bench.serving.arrivals import poisson
from cascade.bench.serving.drive import Answer, Call, CallError, Outcome, Trial, drive
from cascade.bench.serving.figures import figures, in_time, quantile
from cascade.bench.serving.rates import highest_rate


def calls(rate, seconds):
    """Calls at even distances."""
    return [Call(number / rate, "a text", 2) for number in range(round(rate * seconds))]


def test_arrivals_are_those_of_a_poisson_process():
    rate, seconds = 500.0, 40.0
    moments = poisson(rate, seconds, np.random.default_rng(1))
    gaps = np.diff([0.0, *moments])
    assert moments == sorted(moments)
    assert moments[-1] < seconds
    assert len(moments) == pytest.approx(rate * seconds, rel=0.03)  # 3 standard deviations are 2.1 %
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # of an exponential the two are equal
    assert (gaps > 2 / rate).mean() == pytest.approx(exp(-2), abs=0.01)
    counts = np.histogram(moments, bins=round(seconds * 10), range=(0, seconds))[0]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.25)  # neither evenly spread nor clumped
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.03  # a gap says nothing of the next


def test_arrivals_repeat_with_their_seed_alone():
    first, again, other = (poisson(50, 2, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first == again != other


async def test_a_server_that_stands_still_for_a_second_shows_it_in_all_calls_that_were_due():
    free = asyncio.Event()
    free.set()

    async def send(text):
        await free.wait()
        return Answer()

    async def stall():
        await asyncio.sleep(0.5)
        free.clear()
        await asyncio.sleep(1.0)
        free.set()

    pause = asyncio.create_task(stall())
    trial = await drive(send, calls(100, 3), 3)
    await pause
    found = figures(trial, lambda tokens: 0.05)
    # A third of the calls were due in that second, and wait for what was left of it: none is left out.
    assert found["calls"] == 300 == sum(outcome.answer is not None for outcome in trial.outcomes)
    assert found["latency_ms"]["p99"] > 900
    assert found["latency_ms"]["p90"] > 500
    assert found["in_time"] < 0.8


async def test_a_blocked_sender_counts_from_when_calls_were_due():
    """The load's own loop stands still: calls are sent late, and their latency says so."""

    async def send(text):
        return Answer()

    async def block():
        await asyncio.sleep(0.3)
        time.sleep(0.5)  # noqa: ASYNC251 - that is the point

    blocked = asyncio.create_task(block())
    trial = await drive(send, calls(100, 1), 1)
    await blocked
    late = [outcome.latency for outcome in trial.outcomes]
    assert max(late) > 0.4
    assert max(outcome.ended - outcome.sent for outcome in trial.outcomes) < max(late)
    told = figures(trial, lambda tokens: 1.0)["phases_ms"]
    assert told["generator"]["p99"] > 400


async def test_calls_that_fail_or_hang_are_never_in_time():
    async def send(text):
        match text:
            case "fails":
                raise CallError("UNAVAILABLE")
            case "hangs":
                await asyncio.sleep(60)
        return Answer({"stage1 infer": 2.0}, escalated=True)

    load = [Call(0.0, "good", 1), Call(0.01, "fails", 1), Call(0.02, "hangs", 1), Call(0.03, "good", 1)]
    trial = await drive(send, load, 1, timeout_s=0.5)
    found = figures(trial, lambda tokens: 10.0)
    assert found["errors"] == {"UNAVAILABLE": 1, "no answer in time": 1}
    assert (found["in_time"], found["goodput_per_s"], found["escalated"]) == (0.5, 2.0, 1.0)
    assert found["latency_ms"]["p99"] is None
    assert found["phases_ms"]["stage1 infer"]["mean"] == 2.0


async def test_a_bug_of_the_sender_is_raised():
    async def send(text):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await drive(send, calls(100, 0.1), 0.1)


async def test_a_load_that_a_server_cannot_take_ends_early():
    cancelled = []

    async def send(text):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(text)
            raise
        return Answer()

    started = time.perf_counter()
    trial = await drive(send, calls(200, 30), 30, most_open=20)
    assert time.perf_counter() - started < 20
    assert trial.overrun
    assert len(cancelled) == 20
    assert in_time(trial, lambda tokens: inf) == 0 or not any(outcome.answer for outcome in trial.outcomes)
    assert figures(trial, lambda tokens: 1.0)["unsent"] > 5000


def test_phases_add_up_to_the_latency():
    call = Call(1.0, "a text", 2)
    outcomes = [
        Outcome(call, sent=1.001, ended=1.010, answer=Answer({"stage1 queue": 1.0, "stage1 infer": 4.0})),
        Outcome(call, sent=1.000, ended=1.030, answer=Answer({"stage1 infer": 8.0, "stage2 infer": 20.0}, True)),
    ]
    found = figures(Trial(outcomes, 1.0, False), lambda tokens: 0.02)
    means = {name: phase["mean"] for name, phase in found["phases_ms"].items()}
    assert means == pytest.approx(
        {"generator": 0.5, "stage1 queue": 0.5, "stage1 infer": 6.0, "stage2 infer": 10.0, "network and rest": 3.0}
    )
    assert sum(means.values()) == pytest.approx(found["latency_ms"]["mean"])
    assert (found["in_time"], found["escalated"]) == (0.5, 0.5)


def test_quantiles_are_values_that_occurred():
    values = [float(value) for value in range(1, 101)]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert quantile([*values[:99], inf], 0.99) == 99.0
    assert quantile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(("capacity", "start"), [(130.0, 40.0), (130.0, 400.0), (3.0, 100.0)])
async def test_the_search_ends_just_below_what_holds(capacity, start):
    tried = []

    async def holds(rate):
        tried.append(rate)
        return rate <= capacity

    found = await highest_rate(holds, start, step=1.5, precision=0.04)
    assert capacity / 1.04 <= found <= capacity
    assert len(tried) == len(set(tried)) < 16


async def test_the_search_says_zero_where_nothing_holds():
    async def holds(rate):
        return False

    assert await highest_rate(holds, 10.0) == 0.0
