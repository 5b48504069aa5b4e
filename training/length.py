"""Fits the length penalty: what the largest window logit of harmless text gains each time that the text doubles.

Were windows independent, the largest logit of n of them would stay below T with the probability ``F(T) ** n``, where F
is the distribution of one window's. So what one window exceeds in 1 of 20 cases, n windows exceed as seldom at the
quantile ``0.95 ** (1 / n)`` of F; the penalty is the slope of that quantile over log2 n, up to some 5,000 words. It is
fitted in the tail, where thresholds lie: the median grows faster, and a penalty fitted there hides what is buried in
long texts. Windows of a real document resemble each other, so that it is flagged rather less often than a short text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from stages.stage import Stage

WINDOWS = (1, 2, 4, 8, 16, 32)
DOCUMENTS, QUANTILE = 40, 0.95
_BATCH = 16  # windows that are scored at once


def fit_length_penalty(stage: Stage, harmless: Sequence[str], seed: int = 0, *, documents: int = DOCUMENTS) -> float:
    """Logits per doubling, at least 0, for :func:`cascade.merging.segments.length_calibrated`.

    Long documents, each of about as many windows as are considered at most, are made of harmless held-out texts.
    """
    rng = random.Random(seed)
    lengths = [(text, stage.encode(text).tokens) for text in harmless if len(text) < 4000]
    size = WINDOWS[-1] * stage.info.window_tokens * 0.8
    windows = [window for _ in range(documents) for window in stage.encode(_document(lengths, size, rng)).windows]
    batches = [windows[start : start + _BATCH] for start in range(0, len(windows), _BATCH)]
    logits = [scores.unsafe for batch in batches for scores in stage.score(batch)]
    levels = [float(np.quantile(logits, QUANTILE ** (1 / count))) for count in WINDOWS]
    slope = np.polyfit(np.log2(WINDOWS), levels, 1)[0]
    return max(0.0, round(float(slope), 4))


def _document(lengths: Sequence[tuple[str, int]], tokens: float, rng: random.Random) -> str:
    pieces, total = [], 0
    while total < tokens:
        text, count = rng.choice(lengths)
        pieces.append(text)
        total += count
    return "\n\n".join(pieces)
