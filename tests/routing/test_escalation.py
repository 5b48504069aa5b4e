"""The reasons to escalate that hold whatever the kind: which one wins, and that no reason means no stage 2."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.routing.band import band
from cascade.routing.escalation import Escalation
from cascade.routing.margin import Margins
from cascade.routing.router import Decision, Router, Signals
from cascade.v1 import check_pb2
from stages.taxonomy import HAZARDS, TINYSAFE_CATEGORIES
from tests.routing.networks import random_network

BAND = Escalation(band, at=0.1, unsafe_threshold=0.6, audit_rate=0.01, escalate_at={"child_exploitation": 0.03})
KINDS: dict[str, Escalation] = {
    "band": BAND,
    "margin": replace(BAND, worth=Margins({"unsafe": 1.5, "violence": 1.0}, 0.6), at=0.5),
    "delegation": replace(BAND, worth=random_network().judge(), at=0.55),
}

probabilities = st.floats(0, 1)
categories = st.fixed_dictionaries(dict.fromkeys(TINYSAFE_CATEGORIES, probabilities))
signals = st.builds(
    Signals,
    probabilities,
    categories,
    st.sampled_from([(), ("case_noise",), ("case_noise", "unread_script")]),
    probabilities,
    st.integers(0, 10**6),
)
each_kind = pytest.mark.parametrize("router", KINDS.values(), ids=KINDS)


@pytest.mark.parametrize(
    ("seen", "reason"),
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
def test_reason_in_a_band(seen: Signals, reason: int) -> None:
    decision = BAND.route(seen)
    assert decision.reason == reason
    assert decision.escalate == (reason != check_pb2.ROUTE_REASON_PASSED)
    assert decision.triggers == seen.triggers


def test_the_first_reason_in_the_order_of_the_enum_wins() -> None:
    everything = Signals(0.7, {"sexual": 0.5}, ("unread_script",), 0.0)
    flagged = Decision(True, check_pb2.ROUTE_REASON_FLAGGED, ("unread_script",), audited=True)
    assert BAND.route(everything) == flagged
    assert BAND.route(Signals(0.2, {"sexual": 0.5}, ("x",), 0.0)).reason == check_pb2.ROUTE_REASON_UNCERTAIN
    assert BAND.route(Signals(0.0, {"sexual": 0.5}, ("x",), 0.0)).reason == check_pb2.ROUTE_REASON_TRIGGERED
    assert BAND.route(Signals(0.0, {"sexual": 0.5}, (), 0.0)).reason == check_pb2.ROUTE_REASON_SENSITIVE_HAZARD


@each_kind
@given(seen=signals)
def test_who_was_drawn_does_not_hang_on_any_other_reason(router: Escalation, seen: Signals) -> None:
    """Else those who were would be no random sample."""
    decision = router.route(seen)
    assert decision.audited == (seen.audit_draw < router.audit_rate)
    assert decision.escalate or not decision.audited


@pytest.mark.parametrize("hazard", [hazard for hazard in HAZARDS if hazard.tinysafe], ids=lambda hazard: hazard.slug)
def test_every_hazard_can_be_sensitive_through_each_of_its_categories(hazard) -> None:
    router = Escalation(band, at=0.1, unsafe_threshold=0.6, escalate_at={hazard.slug: 0.5})
    for category in (hazard.slug, *hazard.tinysafe):
        assert router.route(Signals(0.0, {category: 0.5})).escalate
        assert not router.route(Signals(0.0, {category: 0.49})).escalate


def test_of_two_hazards_that_share_a_category_the_more_careful_one_counts() -> None:
    at = {"child_exploitation": 0.02, "sexual_content": 0.4}
    for given_at in (at, dict(reversed(at.items()))):
        router = Escalation(band, at=0.9, unsafe_threshold=0.95, escalate_at=given_at)
        assert router.route(Signals(0.0, {"sexual": 0.02})).escalate
        assert not router.route(Signals(0.0, {"sexual_content": 0.3})).escalate


@each_kind
@given(seen=signals)
def test_a_router_says_the_same_each_time(router: Router, seen: Signals) -> None:
    assert router.route(seen) == router.route(seen)


@each_kind
@given(seen=signals)
def test_no_kind_takes_back_what_another_reason_asks_for(router: Escalation, seen: Signals) -> None:
    must = (
        seen.stage1 >= router.unsafe_threshold
        or bool(seen.triggers)
        or seen.categories["sexual"] >= 0.03
        or seen.audit_draw < router.audit_rate
    )
    decision = router.route(seen)
    assert decision.escalate == (must or router.worth(seen) >= router.at)
    assert 0 <= router.worth(seen) <= 1


@pytest.mark.parametrize("kind", ["band", "margin"])
@given(seen=signals, other=probabilities)
def test_a_higher_score_never_stops_an_escalation(kind: str, seen: Signals, other: float) -> None:
    """A delegation router makes no such promise: it may think a text hopeless that stage 1 is a little surer of."""
    low, high = (replace(seen, stage1=score) for score in sorted((seen.stage1, other)))
    assert KINDS[kind].route(low).escalate <= KINDS[kind].route(high).escalate


@each_kind
@given(seen=signals)
def test_where_flags_are_left_to_the_router_only_its_own_reasons_count(router: Escalation, seen: Signals) -> None:
    left = replace(router, escalate_flagged=False, escalate_at={}, audit_rate=0.0)
    decision = left.route(replace(seen, triggers=()))
    assert decision.reason in (check_pb2.ROUTE_REASON_PASSED, check_pb2.ROUTE_REASON_UNCERTAIN)
    assert decision.escalate == (left.worth(seen) >= left.at)
