"""Scored sets -> the report: for each cohort the metrics of both stages and of the cascade, all with intervals.

The report is plain data that goes into ``report.json`` as it is; :mod:`cascade.evaluate.render` makes Markdown of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.evaluate.budgets import report_budgets
from cascade.evaluate.calibration import brier_score, expected_calibration_error, reliability
from cascade.evaluate.categories import report_categories
from cascade.evaluate.charts import counts
from cascade.evaluate.curves import risk_coverage, sureness
from cascade.evaluate.hazards import score_hazards, true_hazard
from cascade.evaluate.metrics import (
    Bools,
    Floats,
    Metric,
    bootstrap,
    decision_metrics,
    ranking_metrics,
    selective_metrics,
)
from cascade.evaluate.peers import published
from cascade.evaluate.rows import LabelledSet
from cascade.evaluate.scoring import Scores
from cascade.evaluate.slices import report_slices
from cascade.policy import Policy

STAGE1, STAGE2, CASCADE, STRICT = "stage1", "stage2", "cascade", "cascade_strict"


def report_set(labelled: LabelledSet, scores: Scores, policy: Policy, *, seed: int, resamples: int) -> dict[str, Any]:
    """Measures one set: every cohort, the slices, and the hazards and categories where its labels name them."""
    cohorts = [
        {"cohort": name}
        | report_cohort(labelled, scores, np.array(indices), policy, seed=seed, resamples=resamples)
        | {"peers": published(labelled.name, name, len(indices), labelled.files.values())}
        for name, indices in labelled.cohorts().items()
    ]
    return {
        "set": labelled.name,
        "files": labelled.files,
        "rows": len(labelled.rows),
        "cohorts": cohorts,
        "hazards": report_hazards(labelled, scores, seed=seed, resamples=resamples),
        "categories": report_categories(labelled.rows, scores, seed=seed, resamples=resamples),
        "slices": report_slices(labelled.rows, scores, seed=seed, resamples=resamples),
        "plots": report_plots(labelled, scores, policy),
    }


def report_cohort(
    labelled: LabelledSet, scores: Scores, indices: NDArray[np.int_], policy: Policy, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Measures some rows of a set. Those without a binary label count for the route only."""
    known = np.array([i for i in indices if labelled.rows[i].unsafe is not None], dtype=int)
    positive: Bools = np.array([bool(labelled.rows[i].unsafe) for i in known], dtype=bool)
    of_known = scores.at(known)
    metrics: dict[str, Metric] = {}
    for system, decided, probability, threshold in _systems(of_known, policy):
        named = decision_metrics(positive, decided) | ranking_metrics(positive, probability)
        named |= selective_metrics(decided != positive, sureness(probability, threshold))
        metrics |= {f"{system}.{name}": metric for name, metric in named.items()}
    strict = decision_metrics(positive, of_known.unsafe | of_known.controversial)
    metrics |= {f"{STRICT}.{name}": metric for name, metric in strict.items()}
    metrics["gain"] = lambda weights: metrics[f"{CASCADE}.f1"](weights) - metrics[f"{STAGE1}.f1"](weights)
    estimates = bootstrap(metrics, len(known), seed=seed, resamples=resamples)
    of_all = scores.at(indices)
    return {
        "rows": len(indices),
        "labelled": len(known),
        "positives": int(positive.sum()),
        "escalation_rate": float(np.mean(of_all.escalated)) if len(indices) else None,
        "route_reasons": dict(sorted(Counter(of_all.reason.tolist()).items())),
        "systems": {
            system: {
                name.removeprefix(f"{system}."): estimate.to_dict()
                for name, estimate in estimates.items()
                if name.startswith(f"{system}.")
            }
            for system in (STAGE1, STAGE2, CASCADE, STRICT)
        },
        "f1_gain_over_stage1": estimates["gain"].to_dict(),
        "budgets": report_budgets(of_known, positive, policy, seed=seed, resamples=resamples),
    }


def report_hazards(labelled: LabelledSet, scores: Scores, *, seed: int, resamples: int) -> dict[str, Any] | None:
    """Measures how well stage 2 names the hazard; None where no label of the set is one of AILuminate's."""
    named = [(i, slug) for i, row in enumerate(labelled.rows) if (slug := true_hazard(row.labels)) is not None]
    if not named:
        return None
    probabilities = scores.at(np.array([i for i, _ in named])).hazards
    return asdict(score_hazards([slug for _, slug in named], probabilities, seed=seed, resamples=resamples))


def report_plots(labelled: LabelledSet, scores: Scores, policy: Policy) -> dict[str, Any] | None:
    """What the page draws of all labelled rows; None where they are of one class."""
    known = np.flatnonzero([row.unsafe is not None for row in labelled.rows])
    positive: Bools = np.array([bool(labelled.rows[i].unsafe) for i in known], dtype=bool)
    if not positive.any() or positive.all():
        return None
    of_known, targets = scores.at(known), positive.astype(np.float64)
    classes = {"harmless": ~positive, "unsafe": positive}
    systems = {}
    for system, decided, probability, threshold in _systems(of_known, policy):
        points, area = risk_coverage(decided != positive, sureness(probability, threshold))
        bins = reliability(probability, targets, bins=10)
        systems[system] = {
            "risk_coverage": {"points": points, "area": area},
            "reliability": [(bin_.predicted, bin_.observed, bin_.weight) for bin_ in bins],
            "ece": expected_calibration_error(probability, targets),
            "brier": brier_score(probability, targets),
            "histogram": counts(probability, classes),
        }
    return systems


def _systems(scores: Scores, policy: Policy) -> Iterator[tuple[str, Bools, Floats, Floats | float]]:
    """Each system with its decisions, its probabilities and the thresholds that they are held against."""
    first, merged = policy.stage1.unsafe_threshold, policy.stage2.unsafe_threshold
    yield STAGE1, scores.stage1 >= first, scores.stage1, first
    yield STAGE2, scores.stage2_unsafe, scores.stage2, merged
    yield CASCADE, scores.unsafe, scores.cascade, np.where(scores.escalated, merged, first)
