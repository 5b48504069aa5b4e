"""Finds the hazards that block by themselves: flagged, they make a text unsafe that the merged score lets pass.

A judge of texts as a whole learned mostly from prompts, and its threshold is made for one kind of traffic. What else is
harmful, a hateful comment say, often stays below it though the hazard's own head is sure. Such a hazard gets
``action = "BLOCK"`` where, on held-out rows, no kind of traffic loses F1 by it and their mean gains, each in 95 % of
the bootstrap resamples: false alarms may grow where finds grow more. Hazards are tried in canonical order, each on top
of those before.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from cascade.policy import Policy
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.sample import Sample
from stages.taxonomy import HAZARD_SLUGS
from training.held_out import HeldOut
from training.prevalence import Array, draws, f1_of_draws

BY_DESIGN = ("child_exploitation",)  # whatever the rows say: a miss harms a child
RESAMPLES = 1000
SURE = 0.95


def fit_blocking(policy: Policy, held: HeldOut, scores: Sample) -> Policy:
    """The policy with ``action = "BLOCK"`` for the hazards that earn it and for those that have it by design."""
    chosen = _with_action(policy, BY_DESIGN)
    reached = outcomes(scores, replace(Rules.of(chosen), audit_rate=0.0))
    blocks, unsafe = list(BY_DESIGN), reached.unsafe
    rng = np.random.default_rng(0)
    kinds = {name: (rows, draws(rows.size, RESAMPLES, rng)) for name, rows in held.kinds().items()}

    def quality(predicted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Array:
        """F1 [kinds, 1 + resamples]."""
        return np.array(
            [f1_of_draws(predicted[rows, None], held.unsafe[rows], n, kind)[:, 0] for kind, (rows, n) in kinds.items()]
        )

    before = quality(unsafe)
    for column, slug in enumerate(HAZARD_SLUGS):
        after = quality(unsafe | reached.flagged[:, column])
        gains = (after - before)[:, 1:]
        if slug not in blocks and (gains.mean(0) > 0).mean() >= SURE and ((gains >= 0).mean(1) >= SURE).all():
            blocks.append(slug)
            unsafe, before = unsafe | reached.flagged[:, column], after
    return _with_action(policy, blocks)


def _with_action(policy: Policy, slugs: Collection[str]) -> Policy:
    hazards = {
        slug: rule.model_copy(update={"action": "BLOCK" if slug in slugs else None})
        for slug, rule in policy.hazards.items()
    }
    return policy.model_copy(update={"hazards": hazards})
