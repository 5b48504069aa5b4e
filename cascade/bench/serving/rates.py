"""The highest rate that holds: *a trial of a rate* -> doubling until one fails, then halving the gap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import sqrt

LOWEST = 0.5  # calls a second; below it nothing is looked for


async def highest_rate(
    holds: Callable[[float], Awaitable[bool]], start: float, *, step: float = 1.5, precision: float = 0.04
) -> float:
    """A rate that held, such that one higher by at most ``precision`` of it did not; 0 where not even the lowest did.

    Args:
        holds: tries a rate.
        start: the first rate to try.
        step: the factor between tries until one holds and one does not.
        precision: how near the two are in the end.
    """
    low, high = 0.0, 0.0
    rate = start
    while not (low and high):
        if await holds(rate):
            low, rate = rate, rate * step
        else:
            high, rate = rate, rate / step
            if high <= LOWEST:
                return 0.0
    while high > low * (1 + precision):
        middle = sqrt(low * high)
        if await holds(middle):
            low = middle
        else:
            high = middle
    return low
