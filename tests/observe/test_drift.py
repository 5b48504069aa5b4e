"""Drift against a policy's reference: none where there is none, a loud one where the traffic has changed."""

from __future__ import annotations

import numpy as np
import pytest

from cascade.cache import Answers
from cascade.errors import PolicyError
from cascade.observe.drift import ENOUGH, WINDOW, Drift
from cascade.observe.metrics import Metrics
from cascade.policy import PolicyStore, parse
from cascade.policy.reference import Reference, reference
from cascade.v1.check_pb2 import CheckRequest
from tests.fakes import fake_pipeline, fake_policy

RNG = np.random.default_rng(7)
FITTED = RNG.beta(0.4, 3, 4000)
REFERENCE = reference(FITTED, FITTED > 0.3)


def table(reference: Reference) -> str:
    deciles = "\n".join(f"{name} = {value}" for name, value in reference.stage1.model_dump().items())
    return f"[reference]\nrows = {reference.rows}\nescalated = {reference.escalated}\n[reference.stage1]\n{deciles}\n"


def drift_of(scores: np.ndarray, known: Reference = REFERENCE) -> Drift:
    drift = Drift(known)
    for score in scores:
        drift.add(float(score), bool(score > 0.3))
    return drift


def test_the_same_traffic_does_not_drift() -> None:
    drift = drift_of(RNG.beta(0.4, 3, WINDOW))
    assert drift.index < 0.01
    assert drift.escalation == pytest.approx(REFERENCE.escalated, abs=0.02)


@pytest.mark.parametrize(("beta", "least"), [((0.5, 2), 0.1), ((3, 3), 1.0), ((0.4, 30), 0.25)])
def test_other_traffic_drifts(beta: tuple[float, float], least: float) -> None:
    assert drift_of(RNG.beta(*beta, WINDOW)).index > least


def test_only_the_latest_checks_count() -> None:
    drift = drift_of(np.full(2 * WINDOW, 0.99))
    assert (drift.checks, drift.escalation) == (WINDOW, 1.0)
    assert drift.index > 2
    for score in RNG.beta(0.4, 3, WINDOW):
        drift.add(float(score), bool(score > 0.3))
    assert drift.index < 0.01
    assert drift.checks == WINDOW


def test_of_scores_that_are_all_the_same_there_is_no_reference() -> None:
    with pytest.raises(ValueError, match="deciles"):
        reference(np.array([0.01] * 70 + [0.5] * 30), np.zeros(100, bool))


def test_tiny_scores_are_told_apart() -> None:
    scores = RNG.beta(0.4, 3, WINDOW) * 1e-7
    assert drift_of(scores, reference(scores, scores > 1)).index < 0.01


def test_the_reference_is_part_of_the_policy_but_not_of_its_rules() -> None:
    plain, told = fake_policy(), fake_policy(table(REFERENCE))
    assert told.reference == REFERENCE
    assert plain.rules_digest == told.rules_digest
    assert plain.revision != told.revision
    assert parse(told.toml) == told, "what is written is read back the same"


def test_a_reference_that_cannot_be_is_refused() -> None:
    falling = table(REFERENCE).replace("p10 = ", "p10 = 0.9 # ")
    with pytest.raises(PolicyError, match="deciles"):
        fake_policy(falling)
    with pytest.raises(PolicyError, match="p50"):
        fake_policy(table(REFERENCE).replace("p50", "p51"))


async def test_metrics_have_it_once_there_were_enough_checks() -> None:
    metrics = Metrics()
    stages = fake_pipeline(policies=[fake_policy(table(REFERENCE)), fake_policy(name="plain")], answers=Answers("m"))
    metrics.adopt(stages)

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"policy": "default"})

    calm, other = CheckRequest(text="a fine day"), CheckRequest(text="a fine day", policy="plain")
    for _ in range(ENOUGH - 1):
        metrics.observe(await stages.check(calm), 0.01)
    for _ in range(10):
        metrics.observe(await stages.check(other), 0.01)
    assert value("cascade_reference_escalation_ratio") == REFERENCE.escalated
    assert value("cascade_drift_score_psi") is None, "too few checks under this policy"
    metrics.observe(await stages.check(calm), 0.01)
    assert value("cascade_drift_escalation_ratio") == 0
    assert value("cascade_drift_score_psi") > 1
    metrics.adopt(stages.with_policies(PolicyStore([fake_policy(table(REFERENCE))])))
    assert value("cascade_drift_score_psi") > 1, "the same policy goes on"
    metrics.adopt(stages.with_policies(PolicyStore([fake_policy()])))
    assert value("cascade_drift_score_psi") is value("cascade_reference_escalation_ratio") is None
    await stages.close()
