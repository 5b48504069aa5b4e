"""Scored sets -> the report: for each cohort the metrics of both stages and of the cascade, all with intervals.

The report is plain data that goes into ``report.json`` as it is; :mod:`cascade.evaluate.render` makes Markdown of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.evaluate.hazards import score_hazards, true_hazard
from cascade.evaluate.metrics import Bools, Metric, bootstrap, decision_metrics, ranking_metrics
from cascade.evaluate.rows import LabelledSet
from cascade.evaluate.scoring import Scores
from cascade.policy import Policy

STAGE1, STAGE2, CASCADE, STRICT = "stage1", "stage2", "cascade", "cascade_strict"


def report_set(labelled: LabelledSet, scores: Scores, policy: Policy, *, seed: int, resamples: int) -> dict[str, Any]:
    """Measures one set: every cohort, and the hazards where its labels name them."""
    cohorts = [
        {"cohort": name} | report_cohort(labelled, scores, np.array(indices), policy, seed=seed, resamples=resamples)
        for name, indices in labelled.cohorts().items()
    ]
    return {
        "set": labelled.name,
        "files": labelled.files,
        "rows": len(labelled.rows),
        "cohorts": cohorts,
        "hazards": report_hazards(labelled, scores, seed=seed, resamples=resamples),
    }


def report_cohort(
    labelled: LabelledSet, scores: Scores, indices: NDArray[np.int_], policy: Policy, *, seed: int, resamples: int
) -> dict[str, Any]:
    """Measures some rows of a set. Those without a binary label count for the route only."""
    known = np.array([i for i in indices if labelled.rows[i].unsafe is not None], dtype=int)
    positive: Bools = np.array([bool(labelled.rows[i].unsafe) for i in known], dtype=bool)
    of_known = scores.at(known)
    metrics: dict[str, Metric] = {}
    for system, decided, ranked in (
        (STAGE1, of_known.stage1 >= policy.stage1.unsafe_threshold, of_known.stage1),
        (STAGE2, of_known.stage2 >= policy.stage2.unsafe_threshold, of_known.stage2),
        (CASCADE, of_known.unsafe, of_known.cascade),
        (STRICT, of_known.unsafe | of_known.controversial, None),
    ):
        named = decision_metrics(positive, decided)
        if ranked is not None:
            named |= ranking_metrics(positive, ranked)
        metrics |= {f"{system}.{name}": metric for name, metric in named.items()}
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
    }


def report_hazards(labelled: LabelledSet, scores: Scores, *, seed: int, resamples: int) -> dict[str, Any] | None:
    """Measures how well stage 2 names the hazard; None where no label of the set is one of AILuminate's."""
    named = [(i, slug) for i, row in enumerate(labelled.rows) if (slug := true_hazard(row.labels)) is not None]
    if not named:
        return None
    probabilities = scores.at(np.array([i for i, _ in named])).hazards
    return asdict(score_hazards([slug for _, slug in named], probabilities, seed=seed, resamples=resamples))
