"""Which of TinySafe's categories does a text hold: known cells and probabilities -> F1 and AUPRC of each, and macro-F1.

A cell that a set does not know counts nowhere. A category is held from a calibrated probability of one half on. The
macro-F1 is the mean over the categories that the set holds and does not hold somewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cascade.evaluate.metrics import Metric, bootstrap, decision_metrics, ranking_metrics
from cascade.evaluate.rows import Row
from cascade.evaluate.scoring import Scores
from stages.taxonomy import TINYSAFE_CATEGORIES

HELD = 0.5


def report_categories(rows: Sequence[Row], scores: Scores, *, seed: int, resamples: int) -> dict[str, Any] | None:
    """Measures the categories; None where the rows know of none, or no stage scores them."""
    cells = np.array([[row.categories.get(name, np.nan) for name in TINYSAFE_CATEGORIES] for row in rows], dtype=float)
    cells[np.isnan(scores.categories)] = np.nan
    some = np.flatnonzero(~np.isnan(cells).all(axis=1))
    cells, probabilities = cells[some], scores.categories[some]
    metrics: dict[str, Metric] = {}
    counted = []
    for index, name in enumerate(TINYSAFE_CATEGORIES):
        known = np.flatnonzero(~np.isnan(cells[:, index]))
        held, probability = cells[known, index] == 1, probabilities[known, index]
        if not held.any() or held.all():
            continue
        counted.append((name, int(held.sum()), len(known)))
        found = decision_metrics(held, probability >= HELD) | ranking_metrics(held, probability)
        metrics |= {f"{name}.{metric}": _of(found[metric], known) for metric in ("precision", "recall", "f1", "auprc")}
    if not counted:
        return None
    metrics["macro_f1"] = lambda weights: np.mean([metrics[f"{name}.f1"](weights) for name, *_ in counted], axis=0)
    estimates = bootstrap(metrics, len(some), seed=seed, resamples=resamples)
    return {
        "rows": len(some),
        "macro_f1": estimates["macro_f1"].to_dict(),
        "categories": [
            {"name": name, "positives": positives, "known": known}
            | {metric: estimates[f"{name}.{metric}"].to_dict() for metric in ("precision", "recall", "f1", "auprc")}
            for name, positives, known in counted
        ],
    }


def _of(metric: Metric, known: np.typing.NDArray[np.int_]) -> Metric:
    """A metric over some of the rows."""
    return lambda weights: metric(weights[:, known])
