"""Fits the length penalty: what the largest window logit of harmless text gains each time that the text doubles."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from stages.stage import Stage
from training.calibrate import stage_logits

WINDOWS = (1, 2, 4, 8, 16)
DOCUMENTS, QUANTILE = 40, 0.9


def fit_length_penalty(stage: Stage, harmless: Sequence[str], seed: int = 0, *, documents: int = DOCUMENTS) -> float:
    """Logits per doubling, at least 0, for :func:`cascade.merging.segments.length_calibrated`.

    Long documents are made of harmless held-out texts; the penalty is the slope, over the logarithm of the number of
    windows, of the 90 % quantile of the documents' largest logit.
    """
    rng = random.Random(seed)
    lengths = [(text, stage.encode(text).tokens) for text in harmless if len(text) < 4000]
    quantiles = []
    for windows in WINDOWS:
        size = windows * stage.info.window_tokens * 0.8
        texts = [_document(lengths, size, rng) for _ in range(documents)]
        quantiles.append(float(np.quantile(stage_logits(stage, texts)[0], QUANTILE)))
    slope = np.polyfit(np.log2(WINDOWS), quantiles, 1)[0]
    return max(0.0, round(float(slope), 4))


def _document(lengths: Sequence[tuple[str, int]], tokens: float, rng: random.Random) -> str:
    pieces, total = [], 0
    while total < tokens:
        text, count = rng.choice(lengths)
        pieces.append(text)
        total += count
    return "\n\n".join(pieces)
