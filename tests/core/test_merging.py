"""The rules that make one answer of many scores: their values, and that more evidence never lowers an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.merging.segments import pool
from cascade.merging.stages import RULES, merge
from cascade.merging.verdict import Evidence, fallback, rule
from cascade.policy import Policy, parse
from cascade.policy.model import Merge, Stacker
from cascade.v1.check_pb2 import Action, Verdict
from stages.stage import sigmoid

SAFE, CONTROVERSIAL, UNSAFE = Verdict.VERDICT_SAFE, Verdict.VERDICT_CONTROVERSIAL, Verdict.VERDICT_UNSAFE
ALLOW, REVIEW, BLOCK = Action.ACTION_ALLOW, Action.ACTION_REVIEW, Action.ACTION_BLOCK
logits = st.floats(-20, 20)


def policy(toml: str = "") -> Policy:
    return parse(f'schema = 1\nname = "p"\n[merge]\ncontroversial_threshold = 0.4\n{toml}')


@pytest.mark.parametrize(
    ("rule", "expected"), [("max", 3.0), ("length_calibrated", 3.0 - 0.5 * 2)], ids=["max", "length_calibrated"]
)
def test_windows_become_one_logit(rule: str, expected: float) -> None:
    assert pool([1.0, -2.0, 3.0, 0.0], rule, 0.5) == expected


@given(st.lists(logits, min_size=1, max_size=20), st.floats(0, 2))
def test_one_window_pays_no_penalty_and_more_never_gain(values: list[float], penalty: float) -> None:
    assert pool(values[:1], "length_calibrated", penalty) == values[0]
    assert pool(values, "length_calibrated", penalty) <= pool(values, "max", penalty) == max(values)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("max", sigmoid(1.0)),
        ("noisy_or", 1 - (1 - sigmoid(1.0)) * (1 - sigmoid(-3.0))),
        ("logit_mean", sigmoid(-1.0)),
        ("stacker", sigmoid(0.5 * 1.0 + 2.0 * -3.0 + 0.25)),
    ],
)
def test_stages_become_one_probability(name: str, expected: float) -> None:
    merged = merge(1.0, -3.0, Merge(rule=name, stacker=Stacker(w1=0.5, w2=2.0, bias=0.25)))  # type: ignore[arg-type]
    assert merged == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", RULES)
@given(z1=logits, z2=logits, more=st.floats(0, 10))
def test_more_alarm_never_lowers_the_probability(name: str, z1: float, z2: float, more: float) -> None:
    settings = Merge(rule=name)  # type: ignore[arg-type]
    merged = merge(z1, z2, settings)
    assert 0 <= merged <= 1
    assert merge(z1 + more, z2, settings) >= merged
    assert merge(z1, z2 + more, settings) >= merged


def test_the_stacker_grows_strictly_in_both_stages() -> None:
    settings = Merge(rule="stacker")
    assert merge(0.0, 0.0, settings) < merge(0.001, 0.0, settings) < merge(0.001, 0.001, settings)


@pytest.mark.parametrize(
    ("evidence", "verdict", "action"),
    [
        (Evidence(0.2, 0.5), SAFE, ALLOW),
        (Evidence(0.4, 0.5), CONTROVERSIAL, REVIEW),
        (Evidence(0.5, 0.5), UNSAFE, BLOCK),
        (Evidence(0.2, 0.5, stage1_sure=True), CONTROVERSIAL, REVIEW),
        (Evidence(0.2, 0.5, flagged={"hate"}), CONTROVERSIAL, REVIEW),
        (Evidence(0.9, 0.5, stage1_sure=True, elsewhere=True), SAFE, ALLOW),
    ],
)
def test_verdicts_in_the_strict_mode(evidence: Evidence, verdict: int, action: int) -> None:
    ruling = rule(evidence, policy())
    assert (ruling.verdict, ruling.action, ruling.override_rule) == (verdict, action, "")


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence(0.499, 0.5), SAFE),
        (Evidence(0.5, 0.5), UNSAFE),
        (Evidence(0.2, 0.5, stage1_sure=True), SAFE),
        (Evidence(0.2, 0.5, flagged={"hate"}), SAFE),
    ],
)
def test_the_loose_mode_knows_no_controversial(evidence: Evidence, verdict: int) -> None:
    assert rule(evidence, policy('mode = "loose"\n')).verdict == verdict


def test_the_policy_names_the_actions() -> None:
    mild = policy('[actions]\ncontroversial = "ALLOW"\nunsafe = "REVIEW"\n')
    assert rule(Evidence(0.4, 0.5), mild).action == ALLOW
    assert rule(Evidence(0.6, 0.5), mild).action == REVIEW


HAZARDS = policy(
    '[hazards.hate]\naction = "BLOCK"\n[hazards.privacy]\naction = "REVIEW"\n[hazards.elections]\naction = "ALLOW"\n'
)


@pytest.mark.parametrize(
    ("probability", "flagged", "expected"),
    [
        pytest.param(0.1, {"hate"}, (UNSAFE, BLOCK, "hazards.hate"), id="block raises the verdict too"),
        pytest.param(0.9, {"hate"}, (UNSAFE, BLOCK, ""), id="nothing left to raise"),
        pytest.param(0.1, {"privacy"}, (CONTROVERSIAL, REVIEW, ""), id="as strict already"),
        pytest.param(0.9, {"privacy"}, (UNSAFE, BLOCK, ""), id="never lowers an action"),
        pytest.param(0.9, {"elections"}, (UNSAFE, BLOCK, ""), id="allow lowers nothing"),
        pytest.param(0.1, {"privacy", "hate"}, (UNSAFE, BLOCK, "hazards.hate"), id="the strongest counts"),
        pytest.param(0.1, {"defamation"}, (CONTROVERSIAL, REVIEW, ""), id="no action of its own"),
    ],
)
def test_hazards_raise_what_is_done(probability: float, flagged: set[str], expected: tuple[int, int, str]) -> None:
    ruling = rule(Evidence(probability, 0.5, flagged=flagged), HAZARDS)
    assert (ruling.verdict, ruling.action, ruling.override_rule) == expected


def test_a_review_of_a_safe_text_leaves_the_verdict() -> None:
    loose = policy('mode = "loose"\n[hazards.privacy]\naction = "REVIEW"\n')
    ruling = rule(Evidence(0.1, 0.5, flagged={"privacy"}), loose)
    assert (ruling.verdict, ruling.action, ruling.override_rule) == (SAFE, REVIEW, "hazards.privacy")


def test_block_raises_the_verdict_where_the_action_was_block_already() -> None:
    stern = policy('[actions]\ncontroversial = "BLOCK"\n[hazards.hate]\naction = "BLOCK"\n')
    ruling = rule(Evidence(0.1, 0.5, flagged={"hate"}), stern)
    assert (ruling.verdict, ruling.action, ruling.override_rule) == (UNSAFE, BLOCK, "hazards.hate")


@pytest.mark.parametrize(("choice", "verdict", "action"), [("block", UNSAFE, BLOCK), ("allow", SAFE, ALLOW)])
def test_a_failed_stage_is_ruled_on_by_the_policy(choice: str, verdict: int, action: int) -> None:
    ruling = fallback(choice, "stage2.on_error")
    assert (ruling.verdict, ruling.action, ruling.override_rule) == (verdict, action, "stage2.on_error")


@given(st.sampled_from(sorted(RULES)), logits, logits)
def test_what_stage_1_cannot_read_it_cannot_clear(name: str, z1: float, z2: float) -> None:
    plain, unread = (merge(z1, z2, Merge(rule=name), unread=unread) for unread in (False, True))
    assert unread == max(plain, sigmoid(z2))
