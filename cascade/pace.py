"""How fast a stage is: *batches and their times* -> expected time of the next one. What nobody measures any more fades.

A batch takes a fixed time and a time for each unit of its work (:func:`cascade.job.work_of`), padding included.
Both are fitted by least squares to the latest batches, as BentoML's dispatcher does, with weights that fall
exponentially.
"""

from __future__ import annotations

MEMORY = 0.05  # weight of the newest batch; the first ones count the same
SURE = 10  # batches, from which on one that takes long is taken for a stall of the machine rather than for its pace,
MOST = 4.0  # and counts as at most so many times as long as expected
HALF_LIFE_S = 1.0  # after as long without a batch, or four batches, the pace counts half: none refuses work for long


class Pace:
    """Expected seconds of batches; all of them are 0 until one was measured. Times are the event loop's."""

    def __init__(self) -> None:
        self._batches = 0
        self._measured = 0.0
        self._work = self._seconds = self._squares = self._products = 0.0  # weighted means

    def add(self, work: int, seconds: float, now: float) -> None:
        """Takes note of a batch that has ended now; ``work`` counts padding."""
        if self._batches >= SURE:
            seconds = min(seconds, MOST * (self._seconds + self._slope() * max(0.0, work - self._work)))
        self._batches += 1
        self._measured = now
        weight = max(MEMORY, 1 / self._batches)
        self._work += weight * (work - self._work)
        self._seconds += weight * (seconds - self._seconds)
        self._squares += weight * (work * work - self._squares)
        self._products += weight * (work * seconds - self._products)

    def throughput_s(self, work: float, now: float) -> float:
        """What it takes one thread to work off much, in batches like the latest ones."""
        return self._freshness(now) * work * self._seconds / self._work if self._batches else 0.0

    def expected_s(self, work: int, now: float) -> float:
        """What one batch of that much work takes."""
        if not self._batches:
            return 0.0
        each = self._slope()
        return self._freshness(now) * (self._seconds + each * (work - self._work))

    def _slope(self) -> float:
        """Seconds of one unit more: at least 0, and at most so much that a batch of no work takes no time."""
        variance = self._squares - self._work**2
        most = self._seconds / self._work
        if variance <= 1e-9 * self._squares:  # all batches were alike
            return most
        return min(max((self._products - self._work * self._seconds) / variance, 0.0), most)

    def _freshness(self, now: float) -> float:
        return float(0.5 ** (max(0.0, now - self._measured) / max(HALF_LIFE_S, 4 * self._seconds)))
