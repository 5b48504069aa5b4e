"""What a trial showed: *outcomes, limit* -> goodput, quantiles, phases. A call without an answer is infinitely late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import ceil, isfinite
from statistics import fmean
from typing import Any

from cascade.bench.serving.drive import Outcome, Trial

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
GENERATOR, REST = "generator", "network and rest"


def quantile(ascending: Sequence[float], share: float) -> float:
    """The nearest-rank quantile: the smallest value that so large a share does not exceed."""
    return ascending[max(0, ceil(share * len(ascending)) - 1)]


def in_time(trial: Trial, limit_s: Callable[[int], float]) -> float:
    """The share of all calls that were due whose answer came within the limit for a text of its length."""
    good = sum(outcome.latency <= limit_s(outcome.call.tokens) for outcome in trial.outcomes)
    return good / len(trial.outcomes) if trial.outcomes else 0.0


def figures(trial: Trial, limit_s: Callable[[int], float]) -> dict[str, Any]:
    """A trial as JSON: times in milliseconds, null where they are infinite; rates in calls a second."""
    answered = [outcome for outcome in trial.outcomes if outcome.answer]
    share = in_time(trial, limit_s)
    return {
        "calls": len(trial.outcomes),
        "offered_per_s": round(len(trial.outcomes) / trial.seconds, 2),
        "answered_per_s": round(len(answered) / trial.seconds, 2),
        "goodput_per_s": round(share * len(trial.outcomes) / trial.seconds, 2),
        "in_time": round(share, 5),
        "latency_ms": _spread([outcome.latency for outcome in trial.outcomes]),
        "escalated": round(fmean(outcome.answer.escalated for outcome in answered if outcome.answer), 4)
        if answered
        else None,
        "phases_ms": phases(answered),
        "errors": dict(Counter(outcome.error for outcome in trial.outcomes if outcome.error)),
        "unsent": sum(not isfinite(outcome.sent) for outcome in trial.outcomes),
    }


def phases(answered: Sequence[Outcome]) -> dict[str, dict[str, float | None]]:
    """Where the time of answered calls went. Means add up to the latency's; a phase that a call did not have is 0.

    "generator" is what the load itself was late by; the rest is what the server's own report does not account for:
    transport, serialisation, and whatever it does between the phases.
    """
    rows = []
    for outcome in answered:
        assert outcome.answer is not None, "only answered calls are given"
        told = dict(outcome.answer.phases)
        late = 1e3 * (outcome.sent - outcome.call.due)
        rest = 1e3 * outcome.latency - late - sum(told.values())
        rows.append({GENERATOR: late, **told, REST: rest})
    names = dict.fromkeys(name for row in rows for name in row if name != REST)
    return {name: _spread([row.get(name, 0.0) / 1e3 for row in rows]) for name in (*names, REST) if rows}


def _spread(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return dict.fromkeys(("mean", *QUANTILES))
    ascending = sorted(seconds)
    found = {"mean": fmean(ascending)} | {name: quantile(ascending, share) for name, share in QUANTILES.items()}
    return {name: round(1e3 * value, 3) if isfinite(value) else None for name, value in found.items()}
