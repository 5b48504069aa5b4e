"""Fits calibrators on the model that serves, on rows that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.stage import Logits, Stage, Window
from training.calibrators import Chosen, choose
from training.data.mix import Example

Array = NDArray[np.float64]
VERDICT = "unsafe"  # what the head of the verdict is called among the labels


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


@dataclass(frozen=True)
class Head:
    """The verdict or a label: the rows that know of it, with raw logits, targets (0 or 1) and weights."""

    name: str
    logits: Array
    targets: Array
    weights: Array


def heads_of(
    unsafe: Array, labels: Array, examples: Sequence[Example], shares: Mapping[str, float], names: Sequence[str]
) -> list[Head]:
    """All heads, the verdict first, from the logits of calibration examples; every source counts by its share."""
    weights = source_weights(examples, shares)
    binary = np.array([example.unsafe for example in examples])
    cells = np.array([example.labels for example in examples]).reshape(len(examples), len(names))
    found = []
    columns = ((unsafe, binary), *((labels[:, i], cells[:, i]) for i in range(len(names))))
    for name, (logits, targets) in zip((VERDICT, *names), columns, strict=True):
        known = ~np.isnan(targets)
        found.append(Head(name, logits[known], targets[known], weights[known]))
    return found


def choose_each(heads: Sequence[Head]) -> dict[str, Chosen]:
    """The best calibrator of each head."""
    return {head.name: choose(head.logits, head.targets, head.weights) for head in heads}
