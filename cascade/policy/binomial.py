"""Exact tests on a share: failures among independent rows -> p-value, upper limit, and the rows that a wish needs.

The hypothesis is always that the true share is above the limit. Its p-value is the probability of so few failures if
the share were the limit itself, the lower tail of the binomial distribution: exact for losses of 0 and 1, and so never
weaker than Hoeffding's or Bentkus' bound, which losses in between would need.
"""

from __future__ import annotations

from math import ceil, inf, isqrt, lgamma, log, log1p

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MOST_ROWS = 4_000_000  # beyond it no number of rows is worth telling
_HALVINGS = 60
_REACH = 20  # square roots of n below the failures: what lies farther down is nothing beside the failures' own term


def log_tails(n: int, limit: float, most: int | None = None) -> Array:
    """The logarithms of P(Binomial(n, limit) <= k) for k = 0 ... most, or n; 0 < limit < 1."""
    return _log_sums(0, n if most is None else most, n, limit)


def log_tail(failures: int, n: int, limit: float) -> float:
    """The logarithm of P(Binomial(n, limit) <= failures): the p-value of "the share is above the limit"."""
    if failures >= n:
        return 0.0
    # Below the mean the terms fall so fast that a certificate of any size is checked in no time.
    first = max(0, failures - _REACH * isqrt(n)) if failures < n * limit else 0
    return float(_log_sums(first, failures, n, limit)[-1])


def _log_sums(first: int, last: int, n: int, limit: float) -> Array:
    """The logarithms of the sums of P(Binomial(n, limit) = k) from the first k on, for each up to the last."""
    k = np.arange(first, last)
    # From one term to the next: C(n, k+1) / C(n, k) * limit / (1 - limit).
    steps = np.log((n - k) / (k + 1)) + log(limit) - log1p(-limit)
    start = (n - first) * log1p(-limit)
    if first:
        start += lgamma(n + 1) - lgamma(first + 1) - lgamma(n - first + 1) + first * log(limit)
    sums: Array = np.minimum(np.logaddexp.accumulate(start + np.concatenate([[0.0], np.cumsum(steps)])), 0.0)
    return sums


def upper_limit(failures: int, n: int, delta: float) -> float:
    """The largest share that so few failures do not refute at the level delta (Clopper and Pearson 1934), one-sided."""
    if failures >= n:
        return 1.0
    low, high = failures / n, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if log_tail(failures, n, middle) <= log(delta) else (middle, high)
    return high


def least_rows(limit: float, delta: float) -> int:
    """The rows below which not even a sample without a single failure would prove the limit."""
    return ceil(log(delta) / log1p(-limit))


def rows_needed(share: float, limit: float, delta: float) -> float:
    """The rows that would prove the limit were the share of failures among them ``share``; infinite if it never would.

    The smallest number found by doubling and halving: the p-value falls in the large, not from each row to the next.
    """
    if share >= limit:
        return inf

    def proves(n: int) -> bool:
        return log_tail(ceil(share * n), n, limit) <= log(delta)

    high = least_rows(limit, delta)
    while not proves(high):
        high *= 2
        if high > MOST_ROWS:
            return inf
    low = max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle, high)
    return high
