"""How often a caller may ask: *caller, quota* -> taken, or refused with the time when it may come again.

A rate is kept by the generic cell rate algorithm (ITU-T I.371), a token bucket that needs one number a caller: the
time from which on its bucket is full again. A second's worth may come at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cascade.errors import RateLimitedError
from cascade.serve.identity import Quota
from cascade.serve.used import Book, Used

BURST_S = 1.0  # so much of a rate may come at once, and one request in any case
DAY_S = 86_400.0
LONGEST_S = 1e9  # between two requests: thirty years, so that the next one's time is a number that can be told


class Quotas:
    """What callers have used of their quotas. Counts of a day are lost with the server.

    Args:
        book: what has been used, which processes may share; None for one of this process alone.
        rate: requests a second of a caller whose quota has no rate; None for no bound.
        clock: seconds that never go back; ``calendar`` seconds since 1970, whose days are those of UTC.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        book: Book | None = None,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        self._rate = rate
        self._clock, self._calendar = clock, calendar
        self._book = book or Book()

    def take(self, caller: str, quota: Quota) -> None:
        """Takes one request from what a caller may have.

        Raises:
            RateLimitedError: there is nothing left now.
        """
        rate = quota.rate or self._rate
        if rate is None and quota.daily is None:
            return
        with self._book.of(caller) as used:
            if quota.daily is not None:
                self._take_of_day(used, quota.daily)
            if rate is not None:
                self._take_of_rate(used, rate)

    def _take_of_rate(self, used: Used, rate: float) -> None:
        now = self._clock()
        step = 1 / max(rate, 1 / LONGEST_S)
        ahead = max(used.full_at - now, 0.0)
        wait = ahead - max(BURST_S - step, 0.0)
        if wait > 1e-9:
            raise RateLimitedError(wait)
        used.full_at = now + ahead + step

    def _take_of_day(self, used: Used, daily: int) -> None:
        day, second = divmod(self._calendar(), DAY_S)
        if int(day) > used.day:  # a clock that is set back begins no new day
            used.day, used.count = int(day), 0
        if used.count >= daily:
            raise RateLimitedError(DAY_S - second)
        used.count += 1
