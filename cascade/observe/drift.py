"""How far the latest checks are from the rows that a policy was fitted on: *probability, escalated* -> drift.

The distance is the population stability index over the reference's deciles: below 0.1 nothing has changed that matters,
above 0.25 the policy should be fitted again (Siddiqi 2006, "Credit Risk Scorecards").
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from math import log

from cascade.policy.reference import Reference

WINDOW = 5000  # checks that are looked at: the index of as many without any drift is about 0.002
ENOUGH = 500  # below it chance alone would alarm


class Drift:
    """The latest checks under one policy against its reference."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._deciles = reference.stage1.values()
        self._latest: deque[tuple[int, bool]] = deque(maxlen=WINDOW)
        self._bins: Counter[int] = Counter()
        self._escalated = 0

    @property
    def checks(self) -> int:
        """How many checks are looked at."""
        return len(self._latest)

    @property
    def escalation(self) -> float:
        """The share of them that was escalated."""
        return self._escalated / max(1, len(self._latest))

    @property
    def index(self) -> float:
        """The population stability index of their scores."""
        bins = len(self._deciles) + 1
        # Half a check more in each: an empty bin is no infinite drift.
        shares = [(self._bins[index] + 0.5) / (len(self._latest) + 0.5 * bins) for index in range(bins)]
        return sum((share - 1 / bins) * log(share * bins) for share in shares)

    def add(self, probability: float, escalated: bool) -> None:
        """Takes note of a check, and forgets the oldest if there are enough."""
        if len(self._latest) == WINDOW:
            index, before = self._latest[0]
            self._bins[index] -= 1
            self._escalated -= before
        index = bisect_left(self._deciles, probability)
        self._latest.append((index, escalated))
        self._bins[index] += 1
        self._escalated += escalated
