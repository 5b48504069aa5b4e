"""Probabilities -> logits, on which routers measure distances."""

from __future__ import annotations

from math import log

EDGE = 1e-6  # a probability this near to 0 or 1 is no surer than that


def logit(probability: float) -> float:
    """Log-odds of a probability, at most about 14 to either side."""
    kept = min(max(probability, EDGE), 1 - EDGE)
    return log(kept / (1 - kept))
