"""Two stages -> one probability: rules on calibrated logits, none of which falls when a stage's logit grows."""

from __future__ import annotations

from collections.abc import Callable

from cascade.policy.model import Merge, Stacker
from stages.stage import sigmoid

Rule = Callable[[float, float, Stacker], float]


def largest(z1: float, z2: float, weights: Stacker) -> float:
    """The probability of the stage that is more alarmed."""
    return sigmoid(max(z1, z2))


def noisy_or(z1: float, z2: float, weights: Stacker) -> float:
    """The probability that at least one stage is right, were they independent: ``1 - (1 - p1)(1 - p2)``."""
    return 1.0 - sigmoid(-z1) * sigmoid(-z2)


def logit_mean(z1: float, z2: float, weights: Stacker) -> float:
    """The probability of the mean logit: both stages count the same."""
    return sigmoid((z1 + z2) / 2)


def stacker(z1: float, z2: float, weights: Stacker) -> float:
    """Logistic regression on both logits, fitted on held-out data: Wolpert (1992), "Stacked generalization"."""
    return sigmoid(weights.w1 * z1 + weights.w2 * z2 + weights.bias)


RULES: dict[str, Rule] = {"max": largest, "noisy_or": noisy_or, "logit_mean": logit_mean, "stacker": stacker}


def merge(z1: float, z2: float, policy: Merge, *, unread: bool = False) -> float:
    """The merged probability, 0 to 1, of stage 1's and stage 2's calibrated logits under the policy's rule.

    What stage 1 cannot read (``unread``) it cannot clear: the result is then never below stage 2's own probability.
    """
    merged = RULES[policy.rule](z1, z2, policy.stacker)
    return max(merged, sigmoid(z2)) if unread else merged
