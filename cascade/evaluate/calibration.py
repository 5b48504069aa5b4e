"""How far probabilities can be taken at their word: ECE, Brier score, log loss and the bins of a reliability diagram.

Rows may have weights, for instance so that every source counts by its share; without them each row counts the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.evaluate.metrics import Floats

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Rows of similar probability: the mean of what was said, the share that was so, and how much weight they have."""

    predicted: float
    observed: float
    weight: float


def reliability(probabilities: Floats, targets: Floats, weights: Floats | None = None, bins: int = BINS) -> list[Bin]:
    """Bins of (nearly) equally many rows, from the lowest probabilities up. Targets are 0 or 1."""
    weights = np.ones(len(targets)) if weights is None else weights
    pieces = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    return [
        Bin(
            float(np.average(probabilities[piece], weights=weights[piece])),
            float(np.average(targets[piece], weights=weights[piece])),
            float(weights[piece].sum()),
        )
        for piece in pieces
        if weights[piece].sum() > 0
    ]


def expected_calibration_error(
    probabilities: Floats, targets: Floats, weights: Floats | None = None, bins: int = BINS
) -> float:
    """ECE over bins of equal size (Guo et al. 2017)."""
    found = reliability(probabilities, targets, weights, bins)
    total = sum(bin_.weight for bin_ in found)
    return sum(bin_.weight * abs(bin_.predicted - bin_.observed) for bin_ in found) / total


def brier_score(probabilities: Floats, targets: Floats, weights: Floats | None = None) -> float:
    """The mean squared difference between what was said and what was so (Brier 1950)."""
    return float(np.average((probabilities - targets) ** 2, weights=weights))


def log_loss(logits: Floats, targets: Floats, weights: Floats | None = None) -> float:
    """The mean negative log likelihood of the targets, in nats; without overflow."""
    return float(np.average(np.logaddexp(0, logits) - targets * logits, weights=weights))
