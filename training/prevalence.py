"""F1 at the prevalence of traffic: what thresholds are chosen by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Of unsafe among real prompts to a chatbot (ToxicChat, arXiv:2310.17389) and of toxic among readers' comments (Civil
# Comments, arXiv:1903.04561); more of the held-out rows are.
PREVALENCE = {"chat": 0.0733, "comments": 0.080}


def f1(predicted: NDArray[np.bool_], targets: Array, kind: str = "") -> float:
    """F1 of predictions against targets in {0, 1}, where a kind has a prevalence as if that share of them were 1."""
    return float(f1_of_draws(predicted[:, None], targets, np.ones((1, len(targets))), kind)[0, 0])


def f1_of_draws(predicted: NDArray[np.bool_], targets: Array, counts: Array, kind: str = "") -> Array:
    """F1 [resamples, thresholds] of predictions [rows, thresholds], where counts [resamples, rows] repeat the rows."""
    unsafe = targets == 1
    positives, negatives = (counts[:, rows].sum(1, keepdims=True) for rows in (unsafe, ~unsafe))
    weight, share = np.ones_like(positives), PREVALENCE.get(kind)
    if share is not None:
        both = (positives > 0) & (negatives > 0)
        weight = np.where(both, (1 - share) / share * positives / np.maximum(negatives, 1), 1.0)
    hits, alarms = (counts[:, rows] @ predicted[rows].astype(float) for rows in (unsafe, ~unsafe))
    found: Array = 2 * hits / np.maximum(1.0, hits + weight * alarms + positives)
    return found


def draws(rows: int, resamples: int, rng: np.random.Generator) -> Array:
    """How often each row counts [1 + resamples, rows]: once, then as bootstrap resamples draw it."""
    drawn = rng.multinomial(rows, np.full(rows, 1 / rows), resamples)
    return np.vstack([np.ones(rows), drawn])
