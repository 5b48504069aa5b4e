"""Runs put together: *runs of several servers* -> medians and ranges, and what machine it was."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from statistics import median
from typing import Any

from stages.encoder import cpu_flags


def middle(values: Sequence[float]) -> dict[str, float]:
    """The median of some runs, the lowest and the highest."""
    return {"median": round(median(values), 2), "low": round(min(values), 2), "high": round(max(values), 2)}


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Goodput over the runs, and the other figures of the run in the middle (of two, of the lower one)."""
    ordered = sorted(runs, key=lambda run: float(run["goodput_per_s"]))
    typical = ordered[(len(ordered) - 1) // 2]
    return {
        "goodput_per_s": middle([run["goodput_per_s"] for run in runs]),
        "typical": {name: value for name, value in typical.items() if name != "tried"},
    }


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "cpu": f"{_model()} ({platform.machine()} {cpu_flags()})",
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),  # before: of more than 0 something else was running
        "python": platform.python_version(),
    }


def _model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return "unknown"
