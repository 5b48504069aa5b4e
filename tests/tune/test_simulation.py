"""The guarantee itself: over many draws of rows each promise is broken in at most delta of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from cascade.tune.certify import certify
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.sample import Sample, halves
from cascade.tune.search import search
from cascade.tune.wishes import Wish
from tests.tune.samples import policy, population

DRAWS, ROWS, DELTA, CUTS = 500, 1000, 0.1, 20
WISHES = (
    Wish("escalation", 0.3),
    Wish("missed_unsafe", 0.5),
    Wish("false_positive", 0.03),
    Wish("missed_unsafe", 0.6, "privacy"),
)


def shares(rules: Rules, rows: Sample) -> list[float]:
    """The share that each wish limits, among the rows that it speaks of."""
    done = outcomes(rows, rules)
    return [float(done.failures(wish)[rows.of(wish)].mean()) for wish in WISHES]


@pytest.fixture(scope="module")
def drawn() -> tuple[list[list[float] | None], list[list[float]]]:
    """For each draw the true shares of the certified policy, and those of one that only looked good on its own rows."""
    truth, start = population(), Rules.of(policy())
    rng = np.random.default_rng(7)
    certified: list[list[float] | None] = []
    hopeful = []
    for draw in range(DRAWS):
        rows = truth.at(rng.integers(0, len(truth), ROWS))
        searched, held = halves(rows, draw)
        candidates = search(searched, WISHES, start, DELTA, CUTS)
        proof = certify(candidates.chain(), held, WISHES, DELTA)
        certified.append(None if proof.rules is None else shares(proof.rules, truth))
        sizes = np.array([searched.of(wish).sum() for wish in WISHES])
        limits = np.array([wish.limit for wish in WISHES])
        looks_good = (candidates.failures / sizes <= limits).all(axis=1)
        if looks_good.any():
            best = int(np.where(looks_good, candidates.quality, -np.inf).argmax())
            hopeful.append(shares(candidates.rules(best), truth))
    return certified, hopeful


def broken(found: list[list[float]]) -> list[int]:
    """How often each promise is broken; the last number is how often any is."""
    over = np.array(found) > [wish.limit for wish in WISHES]
    return [*over.sum(axis=0).tolist(), int(over.any(axis=1).sum())]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_promise_is_broken_in_at_most_delta_of_the_draws(drawn) -> None:
    certified, _ = drawn
    kept = [found for found in certified if found is not None]
    assert len(kept) > 0.5 * DRAWS, "with so few policies certified the test would say little"
    for times in broken(kept):
        # No policy breaks no promise, so that the share is of all draws.
        assert binomtest(times, DRAWS, DELTA, alternative="greater").pvalue > 0.001


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_the_test_on_other_rows_promises_would_be_broken_far_more_often(drawn) -> None:
    _, hopeful = drawn
    assert binomtest(broken(hopeful)[-1], len(hopeful), DELTA, alternative="greater").pvalue < 0.01


def test_a_policy_on_the_edge_of_its_wish_passes_in_about_delta_of_the_draws() -> None:
    """The test is no stricter than it has to be: the share is the wish itself, so that each pass is an error."""
    truth, rules = population(), replace(Rules.of(policy()), low=0.5)
    rng = np.random.default_rng(1)
    edge = Wish("escalation", float(outcomes(truth, rules).escalated.mean()))
    draws = [truth.at(rng.integers(0, len(truth), 500)) for _ in range(1000)]
    passed = sum(certify([rules], rows, (edge,), DELTA).rules is not None for rows in draws)
    assert 0.07 < passed / 1000 < 0.12
