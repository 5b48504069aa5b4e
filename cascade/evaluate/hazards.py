"""Which hazard is it: one true hazard a row and 14 probabilities -> precision, recall, F1 of each, and their mean.

The prediction is the largest of the 14 calibrated probabilities. The macro-F1 is the mean over the hazards that occur
in the set, without ``elections``, whose rows are left out of it and reported by themselves (a set holds few of them,
and no training set holds enough).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.evaluate.metrics import Estimate, Floats, Metric, bootstrap, decision_metrics
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS, SLUG_OF_AILUMINATE

LEFT_OUT = "elections"


@dataclass(frozen=True)
class HazardScore:
    """How well one hazard was named."""

    slug: str
    rows: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class HazardReport:
    """All hazards of a set. ``rows`` is the number behind ``macro_f1``."""

    rows: int
    macro_f1: Estimate
    hazards: tuple[HazardScore, ...]
    left_out: HazardScore | None


def true_hazard(labels: Sequence[str]) -> str | None:
    """The hazard that AILuminate's labels of a row name, if they name exactly one."""
    named = {SLUG_OF_AILUMINATE[label] for label in labels if label in SLUG_OF_AILUMINATE}
    return named.pop() if len(named) == 1 else None


def score_hazards(truth: Sequence[str], probabilities: Floats, *, seed: int, resamples: int) -> HazardReport:
    """Compares the most probable hazard of each row with the true one.

    Args:
        truth: the true slug of each row.
        probabilities: shape (rows, 14), in canonical order; NaN where no stage scores that hazard.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """
    true = np.array([HAZARD_INDEX[slug] for slug in truth])
    named = np.argmax(np.where(np.isnan(probabilities), -np.inf, probabilities), axis=1)
    kept = true != HAZARD_INDEX[LEFT_OUT]
    present = [slug for slug in HAZARD_SLUGS if slug != LEFT_OUT and np.any(true == HAZARD_INDEX[slug])]
    metrics: dict[str, Metric] = {}
    for slug in present:
        metrics |= _one(slug, true[kept], named[kept])
    metrics["macro_f1"] = lambda weights: np.mean(
        # A resample without a single row of a hazard says nothing of it: its F1 is NaN, and so is the mean.
        [metrics[f"{slug}.f1"](weights) for slug in present],
        axis=0,
    )
    estimates = bootstrap(metrics if present else {}, int(kept.sum()), seed=seed, resamples=resamples)
    left_out = None
    if not kept.all():
        of_it = bootstrap(_one(LEFT_OUT, true, named), len(true), seed=seed, resamples=resamples)
        left_out = _score(LEFT_OUT, int((~kept).sum()), of_it)
    return HazardReport(
        rows=int(kept.sum()),
        macro_f1=estimates.get("macro_f1", Estimate(None, None, None)),
        hazards=tuple(_score(slug, int(np.sum(true == HAZARD_INDEX[slug])), estimates) for slug in present),
        left_out=left_out,
    )


def _one(slug: str, true: NDArray[np.int_], named: NDArray[np.int_]) -> dict[str, Metric]:
    index = HAZARD_INDEX[slug]
    return {f"{slug}.{name}": metric for name, metric in decision_metrics(true == index, named == index).items()}


def _score(slug: str, rows: int, estimates: dict[str, Estimate]) -> HazardScore:
    return HazardScore(slug, rows, *(estimates[f"{slug}.{name}"] for name in ("precision", "recall", "f1")))
