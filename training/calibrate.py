"""Fits calibrators on the model that serves, on rows that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from stages.manifest import CalibrationNumbers, Scale
from stages.stage import Logits, Stage, Window
from training.data.mix import Example

MIN_OF_A_CLASS = 8
Array = NDArray[np.float64]


def stage_logits(stage: Stage, texts: Sequence[str], budget: int = 4096) -> tuple[Array, Array, Array]:
    """Scores whole texts with a stage: largest unsafe logit [n], largest label logits [n, labels], windows [n]."""
    windows: list[tuple[int, Window]] = [(i, w) for i, text in enumerate(texts) for w in stage.encode(text).windows]
    unsafe = np.full(len(texts), -np.inf)
    labels: Logits = np.full((len(texts), len(stage.info.labels)), -np.inf)
    batch: list[tuple[int, Window]] = []
    for item in [*sorted(windows, key=lambda item: len(item[1])), None]:
        if batch and (item is None or len(item[1]) * (len(batch) + 1) > budget):
            for (index, _), scores in zip(batch, stage.score([w for _, w in batch]), strict=True):
                unsafe[index] = max(unsafe[index], scores.unsafe)
                labels[index] = np.maximum(labels[index], scores.labels)
            batch = []
        if item is not None:
            batch.append(item)
    counts = Counter(index for index, _ in windows)
    return unsafe, labels, np.array([counts[i] for i in range(len(texts))], np.float64)


def fit_platt(logits: Array, targets: Array, weights: Array) -> Scale:
    """Platt's sigmoid with his smoothed targets, by weighted likelihood; the slope is kept above 0.05."""
    positives, negatives = (targets == 1).sum(), (targets == 0).sum()
    if min(positives, negatives) < MIN_OF_A_CLASS:
        return Scale(slope=1.0, bias=0.0)
    smooth = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: Array) -> float:
        z = np.exp(parameters[0]) * logits + parameters[1]
        return float((weights * (np.logaddexp(0, z) - smooth * z)).sum() / weights.sum())

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 2000})
    return Scale(slope=max(0.05, float(np.exp(best.x[0]))), bias=float(best.x[1]))


def source_weights(examples: Sequence[Example], shares: Mapping[str, float]) -> Array:
    """A weight for each example, so that every source counts by its share in the recipe and not by its size."""
    sizes = Counter(example.source for example in examples)
    return np.array([shares[example.source] / sizes[example.source] for example in examples])


def fit_calibration(
    unsafe: Array, labels: Array, examples: Sequence[Example], shares: Mapping[str, float]
) -> CalibrationNumbers:
    """Calibrators of the binary head and of each label, from the logits of calibration examples."""
    weights = source_weights(examples, shares)
    binary = np.array([example.unsafe for example in examples])
    known = ~np.isnan(binary)
    cells = np.array([example.labels for example in examples])
    scales = []
    for column in range(cells.shape[1]):
        mask = ~np.isnan(cells[:, column])
        scales.append(fit_platt(labels[mask, column], cells[mask, column], weights[mask]))
    return CalibrationNumbers(unsafe=fit_platt(unsafe[known], binary[known], weights[known]), labels=scales)


def expected_calibration_error(probabilities: Array, targets: Array, weights: Array, bins: int = 15) -> float:
    """ECE over bins of equal weight (Guo et al. 2017)."""
    order = np.argsort(probabilities)
    error, total = 0.0, weights.sum()
    for piece in np.array_split(order, bins):
        if len(piece):
            share = weights[piece].sum() / total
            mean_p = np.average(probabilities[piece], weights=weights[piece])
            error += share * abs(mean_p - np.average(targets[piece], weights=weights[piece]))
    return float(error)
