"""What measured costs of a text say of many machines: speed-ups after Amdahl and Gunther, and prices.

Gunther, "A General Theory of Computational Scalability Based on Rational Functions" (2008): n workers do
n / (1 + contention (n - 1) + crosstalk n (n - 1)) times what one does. Without crosstalk that is Amdahl's law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY_S = 86_400
TEXTS_A_DAY = 1e9
PEAK = 3.0  # times the average
USED = 0.7  # of the cores' time, at the peak
CORES = 16  # of a node
DOLLARS = 0.04  # a core hour


def speedup(workers: float, contention: float, crosstalk: float = 0.0) -> float:
    """How many times as much as one worker so many do."""
    return workers / (1 + contention * (workers - 1) + crosstalk * workers * (workers - 1))


@dataclass(frozen=True)
class Fit:
    """The laws through one point, all that one and two workers give: each of them explains the whole loss by itself.

    Attributes:
        contention: of Amdahl's law, as if there were no crosstalk: the share of the work that is done one at a time.
        crosstalk: of Gunther's, as if there were no contention.
    """

    contention: float
    crosstalk: float

    def range(self, workers: float) -> tuple[float, float]:
        """The least and the most that the point allows for so many workers: crosstalk alone, contention alone."""
        return speedup(workers, 0, self.crosstalk), speedup(workers, self.contention)


def fit(two: float) -> Fit:
    """The laws through the speed-up of two workers; one above 2 is no loss, and no gain either."""
    loss = max(0.0, 2 / two - 1)
    return Fit(loss, loss / 2)


def overhead_at(tokens: float, known: dict[int, float]) -> float:
    """The overhead of a text by the straight line through the shortest and the longest that were measured."""
    short, long = min(known), max(known)
    return known[short] + (known[long] - known[short]) * (tokens - short) / (long - short)


def work(stage1: float, stage2: float, escalated: float, overhead: float) -> float:
    """Milliseconds of a text on a core whose neighbours are idle, as its parts were measured: c1 + e c2 + o."""
    return stage1 + escalated * stage2 + overhead


@dataclass(frozen=True)
class Need:
    """What a load takes.

    Attributes:
        cores: that have to be there.
        dollars: that they cost a day if they always run.
    """

    cores: float

    @property
    def nodes(self) -> int:
        return math.ceil(self.cores / CORES)

    @property
    def dollars(self) -> float:
        return self.cores * 24 * DOLLARS


def need(busy_ms: float, *, peak: float = 1.0, used: float = 1.0) -> Need:
    """The cores for :data:`TEXTS_A_DAY`.

    Args:
        busy_ms: of a text, on a core whose neighbours are busy.
        peak: times the average load.
        used: the share of the cores' time that is to be used.
    """
    return Need(TEXTS_A_DAY / DAY_S * peak * busy_ms / 1000 / used)
