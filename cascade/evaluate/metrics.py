"""Binary metrics with bootstrap intervals: labels, decisions and scores -> precision, recall, F1, FPR, areas.

Every metric is written for *weighted* rows. The figure itself gives each row the weight 1; a bootstrap resample of
Efron (1979) gives each row the number of times that it was drawn, so one piece of code makes both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]

RESAMPLES = 1000
MAX_FPR = 0.01
MIN_RECALL = 0.95
_ROWS_AT_ONCE = 2_000_000
"""Cells of the weight matrix that are held in memory at once (16 MB as doubles)."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % percentile interval; all three are None where it is undefined (no row to divide by)."""

    value: float | None
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """The estimate for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def bootstrap(
    metrics: Mapping[str, Metric], rows: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Evaluates metrics on ``rows`` rows, with 95 % percentile intervals over resamples of whole rows.

    Args:
        metrics: name -> function of weights, shape (resamples, rows), to values, shape (resamples,), NaN if undefined.
        rows: number of rows.
        seed: of the resampling; the same seed and rows draw the same resamples, so that intervals can be compared.
        resamples: how many.
    """
    if rows == 0:
        return {name: Estimate(None, None, None) for name in metrics}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Floats]] = {name: [] for name in metrics}
    step = max(1, _ROWS_AT_ONCE // rows)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        picks = rng.integers(0, rows, size=(count, rows)) + np.arange(count)[:, None] * rows
        weights = np.bincount(picks.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)
        for name, metric in metrics.items():
            drawn[name].append(metric(weights))
    once = np.ones((1, rows))
    return {name: _estimate(float(metric(once)[0]), drawn[name]) for name, metric in metrics.items()}


def _estimate(value: float, drawn: list[Floats]) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None)
    values = np.concatenate(drawn) if drawn else np.empty(0)
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(value, None, None)
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def decision_metrics(positive: Bools, decided: Bools) -> dict[str, Metric]:
    """Precision, recall, F1 and false-positive rate of decisions; both arguments have shape (rows,)."""
    hits = (positive & decided).astype(np.float64)
    decisions, positives, negatives = (x.astype(np.float64) for x in (decided, positive, ~positive))
    alarms = (~positive & decided).astype(np.float64)
    return {
        "precision": lambda w: ratio(w @ hits, w @ decisions),
        "recall": lambda w: ratio(w @ hits, w @ positives),
        # An F1 without a single positive says nothing, however many alarms there are.
        "f1": lambda w: np.where(w @ positives > 0, ratio(2 * (w @ hits), w @ positives + w @ decisions), np.nan),
        "fpr": lambda w: ratio(w @ alarms, w @ negatives),
    }


def ranking_metrics(positive: Bools, scores: Floats) -> dict[str, Metric]:
    """How well scores rank, whatever the threshold; both arguments have shape (rows,).

    ``auroc`` is the area under the ROC curve (ties count half). ``auprc`` is the sum over distinct thresholds of
    precision times the recall gained there, as ``sklearn.metrics.average_precision_score`` computes it; rows of the
    same score come in together. ``recall_at_fpr`` is the largest recall of a threshold whose false-positive rate is at
    most :data:`MAX_FPR`, ``fpr_at_recall`` the least false-positive rate of one whose recall is at least
    :data:`MIN_RECALL`.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else np.empty(0, int)
    is_positive = positive[order].astype(np.float64)

    def steps(weights: Floats) -> tuple[Floats, Floats]:
        """Positives and negatives gained at each distinct threshold, from the highest down."""
        w = weights[:, order]
        true = np.cumsum(w * is_positive, axis=1)[:, last_of_tie]
        every = np.cumsum(w, axis=1)[:, last_of_tie]
        return true, every - true

    def auroc(weights: Floats) -> Floats:
        true, false = steps(weights)
        gained = np.diff(false, axis=1, prepend=0.0)
        before = np.concatenate([np.zeros((len(true), 1)), true[:, :-1]], axis=1)
        return ratio(np.sum(gained * (true + before) / 2, axis=1), true[:, -1] * false[:, -1])

    def auprc(weights: Floats) -> Floats:
        true, false = steps(weights)
        gained = np.diff(true, axis=1, prepend=0.0)
        precision = np.nan_to_num(ratio(true, true + false))
        area = ratio(np.sum(gained * precision, axis=1), true[:, -1])
        return np.where(false[:, -1] > 0, area, np.nan)  # without negatives every ranking has the area 1

    def rates(weights: Floats) -> tuple[Floats, Floats]:
        true, false = steps(weights)
        return ratio(true, true[:, -1:]), ratio(false, false[:, -1:])

    def recall_at_fpr(weights: Floats) -> Floats:
        recall, fpr = rates(weights)
        best = np.max(np.where(fpr <= MAX_FPR, recall, 0.0), axis=1)
        return np.where(np.isnan(recall[:, -1] + fpr[:, -1]), np.nan, best)

    def fpr_at_recall(weights: Floats) -> Floats:
        recall, fpr = rates(weights)
        least = np.min(np.where(recall >= MIN_RECALL, fpr, 1.0), axis=1)
        return np.where(np.isnan(recall[:, -1] + fpr[:, -1]), np.nan, least)

    return {"auroc": auroc, "auprc": auprc, "recall_at_fpr": recall_at_fpr, "fpr_at_recall": fpr_at_recall}


def selective_metrics(wrong: Bools, sureness: Floats) -> dict[str, Metric]:
    """The area under the risk-coverage curve, ``aurc``: the mean over all shares of the surest rows of what is wrong.

    El-Yaniv and Wiener (2010). Both arguments have shape (rows,); rows that are equally sure keep their order.
    """
    order = np.argsort(-sureness, kind="stable")
    wrongly = wrong[order].astype(np.float64)

    def aurc(weights: Floats) -> Floats:
        w = weights[:, order]
        risk = np.nan_to_num(ratio(np.cumsum(w * wrongly, axis=1), np.cumsum(w, axis=1)))
        return ratio(np.sum(w * risk, axis=1), np.sum(w, axis=1))

    return {"aurc": aurc}


def ratio(above: Floats, below: Floats) -> Floats:
    """Quotient, NaN where the divisor is 0."""
    quotient: Floats = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient
