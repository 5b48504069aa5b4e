"""Inputs -> a check, many times, by hypothesis; what takes too long is a fault, too."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Never

from hypothesis import HealthCheck, Phase, given, seed, settings

HANG_S = 20  # of CPU time for one input: what takes so long is a way to stop a server


class HangError(Exception):
    """An input keeps its reader busy."""


def fuzz(check: Callable[[Any], None], strategy: Any, count: int, number: int) -> int:
    """Gives a check so many inputs, the same ones for the same number; returns how many, which may be fewer.

    Raises:
        Exception: what the check raised, for the smallest input that makes it.
    """
    seen = 0

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(strategy)
    def run(value: Any) -> None:
        nonlocal seen
        seen += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
        check(value)

    before = signal.signal(signal.SIGVTALRM, _hangs)
    try:
        run()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return seen


def _hangs(*_: object) -> Never:
    raise HangError(f"more than {HANG_S} s of CPU time for one input")
