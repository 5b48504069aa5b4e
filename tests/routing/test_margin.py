"""Margins: near which boundaries stage 1 counts as torn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.routing.logits import logit
from cascade.routing.margin import Margins
from cascade.routing.router import Signals
from stages.stage import sigmoid

BOUNDARY = 0.7
MARGINS = Margins({"unsafe": 2.0, "hate": 0.5}, BOUNDARY)
reach = st.floats(-12, 12)


@pytest.mark.parametrize(
    ("unsafe", "hate", "worth"),
    [
        pytest.param(0.0, 9.0, 1.0, id="on the boundary of the verdict"),
        pytest.param(2.0, 9.0, 0.5, id="at the upper edge"),
        pytest.param(-2.0, -9.0, 0.5, id="at the lower edge"),
        pytest.param(-6.0, 0.0, 1.0, id="on the boundary of a category"),
        pytest.param(-6.0, 0.5, 0.5, id="at the edge of a category"),
        pytest.param(-6.0, 1.0, 1 / 3, id="two margins away"),
        pytest.param(6.0, -6.0, 0.25, id="sure of both"),
    ],
)
def test_the_nearest_boundary_counts_in_its_own_measure(unsafe: float, hate: float, worth: float) -> None:
    seen = Signals(sigmoid(logit(BOUNDARY) + unsafe), {"hate": sigmoid(hate), "sexual": 0.5})
    assert MARGINS(seen) == pytest.approx(worth, abs=1e-6), "a category without a margin says nothing"


@given(reach, reach, reach)
def test_nearer_is_worth_more(one: float, other: float, hate: float) -> None:
    near, far = sorted((one, other), key=abs)
    seen = [Signals(sigmoid(logit(BOUNDARY) + z), {"hate": sigmoid(hate)}) for z in (far, near)]
    assert MARGINS(seen[0]) <= MARGINS(seen[1]) + 1e-9


@given(reach, st.floats(0.1, 5), st.floats(0.1, 5))
def test_a_wider_margin_takes_in_more(z: float, one: float, other: float) -> None:
    narrow, wide = (Margins({"unsafe": width}, BOUNDARY)(Signals(sigmoid(z))) for width in sorted((one, other)))
    assert narrow <= wide


def test_labels_that_a_stage_does_not_have_say_nothing() -> None:
    assert Margins({"privacy": 1.0}, BOUNDARY)(Signals(0.7, {"hate": 0.5})) == 0.0


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_a_certain_stage_is_finite(probability: float) -> None:
    assert 0 < MARGINS(Signals(probability, {"hate": probability})) < 0.2
