"""What the reports draw: scores, decisions and labels -> risk over coverage, F1 over the share that is escalated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.evaluate.metrics import Bools, Floats, selective_metrics

Points = list[tuple[float, float]]
POINTS = 200  # of a curve; more cannot be seen
_EDGE = 1e-15  # a probability this near to 0 or 1 has no logit that could be told from infinity


def sureness(probability: Floats, threshold: Floats | float) -> Floats:
    """How sure a decision is: the distance of its logit from that of its threshold."""
    found: Floats = np.abs(_logit(probability) - _logit(np.asarray(threshold)))
    return found


def risk_coverage(wrong: Bools, sure: Floats) -> tuple[Points, float]:
    """The share of wrong decisions among the surest rows, for every share of rows; and the mean of it, AURC.

    El-Yaniv and Wiener (2010).
    """
    ranked = wrong[np.argsort(-sure, kind="stable")]
    counts = np.arange(1, len(ranked) + 1)
    area = selective_metrics(wrong, sure)["aurc"](np.ones((1, len(wrong))))
    return thin(counts / len(ranked), np.cumsum(ranked) / counts), float(area[0])


@dataclass(frozen=True)
class CostQuality:
    """F1 over the share that is escalated, by who chooses what is: a ranking, chance, or one who knows the answers."""

    ranked: Points
    random: Points
    oracle: Points


def cost_quality(alone: Bools, both: Bools, unsafe: Bools, worth: Floats) -> CostQuality:
    """F1 of the cascade at each cost: what passes is decided ``alone``, what is escalated by ``both``.

    Escalated first is what is worth most. The oracle escalates first what only both get right, and last what only
    stage 1 gets right.
    """
    gain = (both == unsafe).astype(int) - (alone == unsafe).astype(int)
    shares = np.arange(len(unsafe) + 1) / len(unsafe)
    ends = [_f1_parts(decided, unsafe) for decided in (alone, both)]
    mixed = [(1 - shares) * first + shares * second for first, second in zip(*ends, strict=True)]
    return CostQuality(
        ranked=thin(shares, _f1_over(alone, both, unsafe, np.argsort(-worth, kind="stable"))),
        random=thin(shares, 2 * mixed[0] / np.maximum(1.0, mixed[0] + mixed[1] + unsafe.sum())),
        oracle=thin(shares, _f1_over(alone, both, unsafe, np.argsort(-gain, kind="stable"))),
    )


def thin(x: Floats, y: Floats) -> Points:
    """At most :data:`POINTS` of a curve's points, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    return [(float(x[i]), float(y[i])) for i in kept]


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, _EDGE, 1 - _EDGE)
    return np.log(clipped) - np.log1p(-clipped)


def _f1_parts(decided: Bools, unsafe: Bools) -> tuple[float, float]:
    return float((decided & unsafe).sum()), float((decided & ~unsafe).sum())


def _f1_over(alone: Bools, both: Bools, unsafe: Bools, order: NDArray[np.int_]) -> Floats:
    """F1 after each further row of the order is escalated, none to all."""
    hits, alarms = _f1_parts(alone, unsafe)
    change = both[order].astype(int) - alone[order].astype(int)
    hit = hits + np.concatenate([[0], np.cumsum(change * unsafe[order])])
    alarm = alarms + np.concatenate([[0], np.cumsum(change * ~unsafe[order])])
    found: Floats = 2 * hit / np.maximum(1.0, hit + alarm + unsafe.sum())
    return found
