"""Samples of memory over calls -> by how much it grows, so that neither noise nor the first calls count as a leak."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import linear_regression, median
from typing import NamedTuple

WARM_UP = 0.2  # share of the calls after which caches, pools and arenas have their size


class Sample(NamedTuple):
    """Megabytes in use after so many calls."""

    calls: int
    mb: float


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """How memory grows after the warm-up, in two ways, each as a share of what is in use after it.

    ``slope`` is that of a line through all samples, over all calls that were measured; ``ends`` compares the medians of
    the first and the last fifth.
    """
    last = samples[-1].calls
    warm = [sample for sample in samples if sample.calls >= WARM_UP * last]
    fifth = max(1, len(warm) // 5)
    first, final = (median(sample.mb for sample in part) for part in (warm[:fifth], warm[-fifth:]))
    slope, _ = linear_regression([sample.calls for sample in warm], [sample.mb for sample in warm])
    return {"slope": slope * (warm[-1].calls - warm[0].calls) / first, "ends": final / first - 1, "warm_mb": first}
