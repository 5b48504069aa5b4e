"""Fits calibrators on the model that serves, on rows that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.manifest import CalibrationNumbers
from stages.stage import Logits, Stage, Window
from training.calibrators import choose
from training.data.mix import Example

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


def source_weights(examples: Sequence[Example], shares: Mapping[str, float]) -> Array:
    """A weight for each example, so that every source counts by its share in the recipe and not by its size."""
    sizes = Counter(example.source for example in examples)
    return np.array([shares[example.source] / sizes[example.source] for example in examples])


def fit_calibration(
    unsafe: Array, labels: Array, examples: Sequence[Example], shares: Mapping[str, float]
) -> CalibrationNumbers:
    """The best calibrator of the binary head and of each label, from the logits of calibration examples."""
    weights = source_weights(examples, shares)
    binary = np.array([example.unsafe for example in examples])
    known = ~np.isnan(binary)
    cells = np.array([example.labels for example in examples])
    scales = []
    for column in range(cells.shape[1]):
        mask = ~np.isnan(cells[:, column])
        scales.append(choose(labels[mask, column], cells[mask, column], weights[mask]).scale)
    return CalibrationNumbers(unsafe=choose(unsafe[known], binary[known], weights[known]).scale, labels=scales)
