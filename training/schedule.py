"""Learning-rate schedules: the share of the peak rate that a step has."""

from __future__ import annotations

import math

START, END = 1 / 25, 1 / 25e4  # OneCycle: of the peak, as torch.optim.lr_scheduler.OneCycleLR has them


def rate(kind: str, step: int, steps: int, warmup: float) -> float:
    """The factor of the learning rate at a step, counted from 0, of ``steps``; ``warmup`` is a share of them.

    "linear" and "cosine" rise linearly and fall to 0; "onecycle" rises and falls by cosines (Smith & Topin 2018), with
    Adam's momentum left as it is.
    """
    rising = max(1, int(steps * warmup))
    left = max(0.0, (steps - step) / max(1, steps - rising))
    if kind == "linear":
        return min((step + 1) / rising, left)
    if kind == "cosine":
        return min((step + 1) / rising, _cosine(1 - left))
    peak, last = max(1.0, steps * warmup - 1), steps - 1.0
    if step <= peak:
        return START + (1 - START) * (1 - _cosine(step / peak))
    return END + (1 - END) * _cosine((step - peak) / max(1.0, last - peak))


def _cosine(way: float) -> float:
    """From 1 to 0 as ``way`` goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, way))))
