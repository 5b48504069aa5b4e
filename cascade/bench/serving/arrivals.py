"""When calls begin: *rate, seconds* -> the moments of a Poisson process, which waits for no answer.

Callers who know nothing of each other arrive like this: gaps are exponential, so that calls come in bunches and a queue
forms long before a server is busy all the time.
"""

from __future__ import annotations

from numpy.random import Generator


def poisson(rate: float, seconds: float, rng: Generator) -> list[float]:
    """Seconds from the start, ascending, each below ``seconds``; on average ``rate * seconds`` of them."""
    moments: list[float] = []
    due = rng.exponential(1 / rate)
    while due < seconds:
        moments.append(due)
        due += rng.exponential(1 / rate)
    return moments
