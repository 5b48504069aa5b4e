"""What stage 2 is worth at a price: F1 and CPU time when stage 1 decides all, a share is escalated, or everything is.

Escalated first is what the policy's router finds most worth it; stage 1 decides the rest at its own threshold. The
policy itself stands beside them: it escalates more where a trigger or a sensitive hazard asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.evaluate.curves import cost_quality
from cascade.evaluate.metrics import Bools, Floats, bootstrap, decision_metrics
from cascade.evaluate.scoring import Scores
from cascade.policy import Policy
from cascade.policy.routers import worth_of
from cascade.routing.router import Signals
from stages.taxonomy import TINYSAFE_CATEGORIES

SHARES = (0.1, 0.2, 0.3)
STAGE1, STAGE2, BOTH, POLICY = "stage 1 alone", "stage 2 alone", "both, always", "the policy"


@dataclass(frozen=True)
class Ranking:
    """How much each row is worth stage 2, and by whom that is said."""

    name: str
    worth: Floats


def ranking(scores: Scores, policy: Policy) -> Ranking:
    """By the policy's router, or by stage 1's probability where the router asks for more than an answer tells."""
    worth = worth_of(policy)
    try:
        found = [
            worth(Signals(float(p), {n: float(q) for n, q in zip(TINYSAFE_CATEGORIES, named, strict=True) if q == q},
                          tokens=int(tokens)))
            for p, named, tokens in zip(scores.stage1, scores.categories, scores.tokens, strict=True)
        ]  # fmt: skip
    except KeyError:
        return Ranking("stage 1's probability", scores.stage1)
    return Ranking(policy.route.kind, np.array(found))


def report_budgets(
    scores: Scores, positive: Bools, policy: Policy, *, seed: int, resamples: int
) -> dict[str, Any] | None:
    """Measures labelled rows; None where all are of one class, so that there is no F1 to trade for."""
    if not positive.any() or positive.all():
        return None
    ranked = ranking(scores, policy)
    alone = scores.stage1 >= policy.stage1.unsafe_threshold
    order = np.argsort(-ranked.worth, kind="stable")
    cases = [(STAGE1, np.zeros(len(positive), dtype=bool), alone)]
    for share in SHARES:
        escalated = np.zeros(len(positive), dtype=bool)
        escalated[order[: round(share * len(positive))]] = True
        cases.append((f"{share:.0%} escalated", escalated, np.where(escalated, scores.both_unsafe, alone)))
    everything = np.ones(len(positive), dtype=bool)
    cases += [
        (POLICY, scores.escalated, scores.unsafe),
        (BOTH, everything, scores.both_unsafe),
        (STAGE2, everything, scores.stage2_unsafe),
    ]
    curves = cost_quality(alone, scores.both_unsafe, positive, ranked.worth)
    return {
        "ranked_by": ranked.name,
        "systems": [
            {
                "system": name,
                "escalated": float(escalated.mean()),
                "escalated_tokens": _share(scores.tokens, escalated),
                **{
                    metric: estimate.to_dict()
                    for metric, estimate in bootstrap(
                        decision_metrics(positive, decided), len(positive), seed=seed, resamples=resamples
                    ).items()
                },
            }
            for name, escalated, decided in cases
        ],
        "curves": {"ranked": curves.ranked, "random": curves.random, "oracle": curves.oracle},
    }


def _share(tokens: Floats | np.typing.NDArray[np.int_], escalated: Bools) -> float:
    """The share of the tokens that is in escalated rows: what a stage costs goes with the length of what it reads."""
    return float(tokens[escalated].sum() / max(1, tokens.sum()))
