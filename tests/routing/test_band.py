"""The band router: which reason wins, and that no reason means no stage 2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.routing.band import BandRouter
from cascade.routing.router import Decision, Router, Signals
from cascade.v1 import check_pb2
from stages.taxonomy import HAZARDS

ROUTER: Router = BandRouter(low=0.1, unsafe_threshold=0.6, audit_rate=0.01, escalate_at={"child_exploitation": 0.03})


@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        pytest.param(Signals(0.05), check_pb2.ROUTE_REASON_PASSED, id="below the band"),
        pytest.param(Signals(0.1), check_pb2.ROUTE_REASON_UNCERTAIN, id="at the foot of the band"),
        pytest.param(Signals(0.59), check_pb2.ROUTE_REASON_UNCERTAIN, id="in the band"),
        pytest.param(Signals(0.6), check_pb2.ROUTE_REASON_FLAGGED, id="at the threshold"),
        pytest.param(Signals(1.0), check_pb2.ROUTE_REASON_FLAGGED, id="certain"),
        pytest.param(Signals(0.05, triggers=("views_disagree",)), check_pb2.ROUTE_REASON_TRIGGERED, id="trigger"),
        pytest.param(Signals(0.05, {"sexual": 0.03}), check_pb2.ROUTE_REASON_SENSITIVE_HAZARD, id="sensitive"),
        pytest.param(Signals(0.05, {"sexual": 0.02}), check_pb2.ROUTE_REASON_PASSED, id="not sensitive enough"),
        pytest.param(Signals(0.05, {"hate": 0.9}), check_pb2.ROUTE_REASON_PASSED, id="another category"),
        pytest.param(Signals(0.05, audit_draw=0.009), check_pb2.ROUTE_REASON_AUDITED, id="audited"),
        pytest.param(Signals(0.05, audit_draw=0.01), check_pb2.ROUTE_REASON_PASSED, id="not audited"),
    ],
)
def test_reason(signals: Signals, reason: int) -> None:
    decision = ROUTER.route(signals)
    assert decision.reason == reason
    assert decision.escalate == (reason != check_pb2.ROUTE_REASON_PASSED)
    assert decision.triggers == signals.triggers


def test_the_first_reason_in_the_order_of_the_enum_wins() -> None:
    everything = Signals(0.7, {"sexual": 0.5}, ("unread_script",), 0.0)
    assert ROUTER.route(everything) == Decision(True, check_pb2.ROUTE_REASON_FLAGGED, ("unread_script",))
    assert ROUTER.route(Signals(0.2, {"sexual": 0.5}, ("x",), 0.0)).reason == check_pb2.ROUTE_REASON_UNCERTAIN
    assert ROUTER.route(Signals(0.0, {"sexual": 0.5}, ("x",), 0.0)).reason == check_pb2.ROUTE_REASON_TRIGGERED
    assert ROUTER.route(Signals(0.0, {"sexual": 0.5}, (), 0.0)).reason == check_pb2.ROUTE_REASON_SENSITIVE_HAZARD


@pytest.mark.parametrize("hazard", [hazard for hazard in HAZARDS if hazard.tinysafe], ids=lambda hazard: hazard.slug)
def test_every_hazard_can_be_sensitive_through_each_of_its_categories(hazard) -> None:
    router = BandRouter(low=0.1, unsafe_threshold=0.6, escalate_at={hazard.slug: 0.5})
    for category in hazard.tinysafe:
        assert router.route(Signals(0.0, {category: 0.5})).escalate
        assert not router.route(Signals(0.0, {category: 0.49})).escalate


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_never_stops_an_escalation(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert ROUTER.route(Signals(low)).escalate <= ROUTER.route(Signals(high)).escalate
