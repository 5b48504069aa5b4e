"""Windows -> one logit: what a stage says of a text that it read in several windows.

The largest window logit alone grows with the number of windows: a long harmless text has more chances to look unsafe
once. ``length_calibrated`` takes that growth off again. Logits are a stage's raw ones; its calibrator comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2


def largest(logits: Sequence[float], length_penalty: float) -> float:
    """The largest window logit; the penalty is not used."""
    return max(logits)


def length_calibrated(logits: Sequence[float], length_penalty: float) -> float:
    """The largest window logit, less ``length_penalty`` for each doubling of the number of windows."""
    return max(logits) - length_penalty * log2(len(logits))


RULES = {"max": largest, "length_calibrated": length_calibrated}


def pool(logits: Sequence[float], rule: str, length_penalty: float) -> float:
    """One logit for at least one window."""
    return RULES[rule](logits, length_penalty)
