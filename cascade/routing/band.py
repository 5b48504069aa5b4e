"""The kind "band": the more unsafe stage 1 thinks a text, the more it is worth stage 2."""

from __future__ import annotations

from cascade.routing.router import Signals


def band(signals: Signals) -> float:
    """Stage 1's calibrated probability."""
    return signals.stage1
