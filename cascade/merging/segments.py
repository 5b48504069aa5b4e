"""Windows -> one logit: what a stage says of a text that it read in several windows.

The largest window logit alone grows with the number of windows: a long harmless text has more chances to look unsafe
once. ``length_calibrated`` takes that growth off again. Logits are a stage's raw ones; its calibrator comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2


def largest(logit: float, windows: int, length_penalty: float) -> float:
    """The largest window logit; the penalty is not used."""
    return logit


def length_calibrated(logit: float, windows: int, length_penalty: float) -> float:
    """The largest window logit, less ``length_penalty`` for each doubling of the number of windows."""
    return logit - length_penalty * log2(windows)


RULES = {"max": largest, "length_calibrated": length_calibrated}


def pool(logits: Sequence[float], rule: str, length_penalty: float) -> float:
    """One logit for at least one window."""
    return RULES[rule](max(logits), len(logits), length_penalty)


def pool_largest(logit: float, windows: int, rule: str, length_penalty: float) -> float:
    """The same where the largest logit of so many windows is known."""
    return RULES[rule](logit, windows, length_penalty)
