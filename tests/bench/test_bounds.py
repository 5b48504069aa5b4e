"""What is asked of figures: a bound that is missed, or cannot be told, fails the command."""

from __future__ import annotations

import json
from math import nan

import pytest

from cascade.bench.serving.drive import Answer, Call, CallError, Outcome, Trial
from cascade.bench.serving.measure import Limit, Load
from cascade.bench.serving.texts import Text
from tests.bench import latency, overload
from tests.bench.bounds import Bound, described, exit_code


@pytest.mark.parametrize(("value", "holds"), [(2.0, True), (1.99, False), (3.0, True), (3.01, False), (nan, False)])
def test_a_bound_holds_at_its_edge_and_never_for_no_number(value, holds):
    bounds = {"figure": Bound(value, least=2.0, most=3.0)}
    assert exit_code(bounds) == (0 if holds else 1)
    told = json.loads(json.dumps(described(bounds), allow_nan=False))
    assert told == {"figure": {"value": value if value == value else None, "least": 2.0, "most": 3.0, "holds": holds}}


def test_one_missed_bound_of_several_fails():
    assert exit_code({"a": Bound(1.0, least=0.5), "b": Bound(1.0, most=0.5)}) == 1


def test_a_check_is_set_against_the_servers_own_kind_of_session():
    found = latency.judge({"check": 4.0, "echo": 1.0, "session": 2.0, "session_of_server": 2.6})
    assert (found["check_ms"].most, found["check_ms"].holds) == (4.0, True)
    assert found["check_less_echo_less_session_ms"].value == pytest.approx(0.4)
    assert not latency.judge({"check": 4.0, "echo": 1.0, "session": 2.0, "session_of_server": 2.4})[
        "check_less_echo_less_session_ms"
    ].holds


def outcome(due, sent, ended, error=""):
    return Outcome(Call(due, "a text", 2), sent, ended, None if error else Answer(), error)


def test_a_phase_counts_from_when_calls_were_due_and_grpcs_own_refusals_too():
    outcomes = [
        outcome(1.0, 1.0, 1.5),  # in the warm-up
        outcome(1.9, 1.9, 2.5),  # due in it, answered after it
        outcome(2.0, 2.3, 2.5),
        outcome(3.0, 3.0, 3.004, "RESOURCE_EXHAUSTED"),
        outcome(3.0, 3.0, 3.050, "UNAVAILABLE"),
        outcome(3.0, 3.0, 3.2, "CANCELLED"),
        outcome(3.9, 3.9, 4.1),  # answered when the phase was over
    ]
    phase = overload.Phase.of(Trial(outcomes, 4.0, False))
    found = phase.described()
    assert (found["calls"], found["answered_per_s"]) == (5, 1.0)
    assert found["answered_ms"] == {"p50": 200.0, "p99": 500.0}
    assert (found["refused"], found["refused_by_grpc"]) == (0.4, 0.2)
    assert found["refused_ms"] == {"p50": 4.0, "p99": 50.0}
    assert found["other_errors"] == {"CANCELLED": 1}
    assert found["generator_late_ms"] == 300.0


async def test_overload_of_a_server_that_refuses_in_time_and_of_one_that_lets_all_wait():
    def phase(answered_s, refused_s, count):
        answers = [outcome(2.0, 2.0, 2.0 + answered_s) for _ in range(count)]
        return overload.Phase.of(
            Trial([*answers, *(outcome(2.0, 2.0, 2.0 + refused_s, "RESOURCE_EXHAUSTED") for _ in range(9))], 3.0, False)
        )

    rest = phase(0.05, 0.001, 20)
    good = overload.judge(100.0, rest, phase(0.095, 0.009, 90))
    assert {bound.holds for bound in good.values()} == {True}
    bad = overload.judge(100.0, rest, phase(0.11, 0.011, 89))
    assert {bound.holds for bound in bad.values()} == {False}


async def test_the_phases_send_what_the_server_could_a_fifth_and_five_times_that(monkeypatch):
    monkeypatch.setattr(overload, "WARM_UP_S", 0.1)
    rates = []

    async def capacity(send, texts, seconds):
        return 40.0

    async def send(text):
        raise CallError("RESOURCE_EXHAUSTED")

    async def drive(send, calls, seconds, **options):
        rates.append(len(calls) / seconds)
        return Trial([outcome(call.due, call.due, call.due, "UNAVAILABLE") for call in calls], seconds, False)

    monkeypatch.setattr(overload, "capacity", capacity)
    monkeypatch.setattr(overload, "drive", drive)
    load = Load([Text("a text", 2)], Limit(50.0), 100.0, 0.1, 0)
    most, _, over = await overload.measure(send, load)
    assert (most, rates) == (40.0, pytest.approx([8.0, 200.0], rel=0.1))
    assert over.share(["UNAVAILABLE"]) == 1.0
