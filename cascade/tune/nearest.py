"""What can be had instead, where the wishes cannot: *candidates* -> points that the searching half would bear out.

Only the searching half is asked, so that the other one stays fit for a test of new wishes. It is a hint, not a promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isinf, log

import numpy as np

from cascade.policy.binomial import log_tails, rows_needed, upper_limit
from cascade.policy.certificate import Promise
from cascade.tune.sample import Floats, Sample
from cascade.tune.search import Candidates
from cascade.tune.wishes import Wish

STRICTER = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Point:
    """Limits, one for each wish, that could be promised together; ``relaxed`` is the wish that gave way, "" for all."""

    relaxed: str
    limits: dict[str, float]


@dataclass(frozen=True)
class Need:
    """How many rows a wish would take, at the share that the surest candidate had; None if no number would do."""

    wish: str
    share: float
    rows_of: str
    there: int
    needed: int | None


def nearest(candidates: Candidates, rows: Sample, wishes: Sequence[Wish], delta: float) -> list[Point]:
    """For each wish the smallest limit that goes with all others, and the point at which all give way by one factor.

    Where the searching half would bear the wishes out, but the other did not, it is asked again at stricter levels.
    """
    for power in STRICTER:
        points = _points(candidates, rows, wishes, delta**power)
        if points:
            return points
    return []


def _points(candidates: Candidates, rows: Sample, wishes: Sequence[Wish], delta: float) -> list[Point]:
    sizes = np.array([int(rows.of(wish).sum()) for wish in wishes])
    limits = np.array([wish.limit for wish in wishes])
    tables = [log_tails(int(n), wish.limit) for n, wish in zip(sizes, wishes, strict=True)]
    keeps = np.stack([table[k] <= log(delta) for table, k in zip(tables, candidates.failures.T, strict=True)], axis=1)
    points = []
    for j, wish in enumerate(wishes):
        others = np.delete(keeps, j, axis=1).all(axis=1)
        if others.any():
            bound = _bound(int(candidates.failures[others, j].min()), int(sizes[j]), delta)
            if bound > wish.limit:
                points.append(Point(wish.name, {w.name: w.limit for w in wishes} | {wish.name: bound}))
    if len(wishes) > 1:
        chosen = int((_rough_bounds(candidates.failures / sizes, sizes) / limits).max(axis=1).argmin())
        bounds = [_bound(int(k), int(n), delta) for k, n in zip(candidates.failures[chosen], sizes, strict=True)]
        together = {wish.name: max(wish.limit, bound) for wish, bound in zip(wishes, bounds, strict=True)}
        if any(together[wish.name] > wish.limit for wish in wishes):
            points.append(Point("", together))
    return points


def needs(promises: Sequence[Promise], wishes: Sequence[Wish], delta: float) -> list[Need]:
    """For each promise that was not proven, the rows of its kind that would prove it if the share stayed as it is."""
    found = []
    for promise, wish in zip(promises, wishes, strict=True):
        if promise.p_value > delta:
            needed = rows_needed(promise.empirical, wish.limit, delta)
            found.append(Need(wish.name, promise.empirical, wish.of, promise.n, None if isinf(needed) else int(needed)))
    return found


def _rough_bounds(shares: Floats, sizes: Floats) -> Floats:
    """Wilson's upper limit at 95 %, only to compare tens of thousands of candidates with each other."""
    z = 1.645
    centre = shares + z * z / (2 * sizes)
    found: Floats = (centre + z * np.sqrt(shares * (1 - shares) / sizes + (z / (2 * sizes)) ** 2)) / (1 + z * z / sizes)
    return found


def _bound(failures: int, n: int, delta: float) -> float:
    """The upper limit, up to the next of three digits behind the point, and never 1."""
    return min(0.999, ceil(1000 * upper_limit(failures, n, delta)) / 1000)
