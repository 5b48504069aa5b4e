"""The charts that the reports share: curves, bins and counts -> figures of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cascade.evaluate.curves import Points
from cascade.evaluate.metrics import Bools, Floats
from cascade.evaluate.page import figure
from cascade.evaluate.svg import COLOURS, Chart

BLUE, ORANGE, GREEN, PURPLE, GREY = COLOURS
BINS = 30
RELIABILITY_BINS = 10
# A system has one colour in all charts.
COLOUR = {"stage 1": ORANGE, "stage 2": PURPLE, "cascade": BLUE, "merged": BLUE}
COLOUR |= {"before": ORANGE, "after": BLUE}  # of a calibration
COLOUR |= {"band": ORANGE, "margin": PURPLE, "delegation": BLUE, "oracle": GREEN, "random": GREY}

Bins = Sequence[tuple[float, float, float]]  # predicted, observed, rows


def risk_coverage(curves: Mapping[str, tuple[Points, float]]) -> str:
    """Risk over coverage, and its area, of each system."""
    highest = max((y for points, _ in curves.values() for _, y in points), default=0)
    chart = Chart(
        "Risk over coverage", "share of texts, the surest first", "share decided wrongly", y=(0, highest or 1)
    )
    for name, (points, _) in curves.items():
        chart.line(points, name, COLOUR[name])
    areas = ", ".join(f"{name} {area:.4f}" for name, (_, area) in curves.items())
    return figure(chart, f"Area under the curve (AURC): {areas}.")


def cost_quality(name: str, ranked: Points, random: Points, oracle: Points, here: tuple[float, float]) -> str:
    """F1 over the share that is escalated, of a ranking with that name; ``here`` is the policy's own place."""
    chart = Chart("Quality over cost", "share escalated", "F1")
    chart.line(oracle, "oracle", GREEN, dashed=True)
    chart.line(ranked, name, BLUE)
    chart.line(random, "random", GREY, dashed=True)
    share, f1 = here
    chart.dot(share, f1, f"this policy: F1 {f1:.3f} at {share:.1%}", ORANGE, 5)
    chart.legend("this policy", ORANGE)
    return figure(chart, f"This policy escalates {share:.1%} of the labelled rows and has an F1 of {f1:.3f}.")


def routers(title: str, curves: Mapping[str, Points]) -> str:
    """F1 over the share that is escalated by each router; "oracle" and "random" are no routers, but its bounds."""
    values = [f1 for points in curves.values() for _, f1 in points]
    low, high = math.floor(20 * min(values)) / 20, math.ceil(20 * max(values)) / 20
    chart = Chart(f"Quality over cost: {title}", "share escalated", "F1", y=(low, max(high, low + 0.05)))
    for name, points in curves.items():
        chart.line(points, name, COLOUR[name], dashed=name in ("oracle", "random"))
    best = ", ".join(f"{name} {max(f1 for _, f1 in points):.3f}" for name, points in curves.items())
    return figure(chart, f"{title}. Best F1: {best}.")


def reliability(
    systems: Mapping[str, tuple[Bins, float, float]],
    *,
    title: str = "",
    y_label: str = "share that is unsafe",
    unit: str = "rows",
) -> str:
    """The bins of each system, with its ECE and its Brier score; ``unit`` is what a bin's size is counted in."""
    chart = Chart(title or "Reliability", "predicted probability", y_label)
    chart.line([(0, 0), (1, 1)], "", GREY, dashed=True)
    notes = []
    for name, (bins, ece, brier) in systems.items():
        chart.line([(predicted, observed) for predicted, observed, _ in bins], name, COLOUR[name])
        for predicted, observed, rows in bins:
            label = f"{name}: {predicted:.2f} said, {observed:.2f} were, {rows:.3g} {unit}"
            chart.dot(predicted, observed, label, COLOUR[name], 3)
        notes.append(f"{name}: ECE {ece:.3f}, Brier {brier:.3f}")
    said = f"{title}. " if title else ""
    return figure(chart, said + "; ".join(notes) + ". What lies below the diagonal is too alarmed.")


def counts(scores: Floats, classes: Mapping[str, Bools]) -> dict[str, list[int]]:
    """How many scores of each class lie in each of :data:`BINS` equal parts of 0 to 1."""
    return {name: np.histogram(scores[part], BINS, (0, 1))[0].tolist() for name, part in classes.items()}


def histogram(name: str, found: Mapping[str, Sequence[int]], thresholds: Mapping[str, float]) -> str:
    """The scores of each class, as :func:`counts` has them: the harmless first, then the unsafe."""
    totals = {label: sum(numbers) for label, numbers in found.items()}
    highest = max(max(numbers) / max(1, totals[label]) for label, numbers in found.items())
    chart = Chart(f"{name}: scores", "calibrated probability", "share of its class", y=(0, highest or 1))
    for (label, numbers), colour in zip(found.items(), (GREEN, ORANGE), strict=True):
        for at, number in enumerate(numbers):
            if number:
                left, right = at / BINS, (at + 1) / BINS
                said = f"{label}, {left:.2f}–{right:.2f}: {number}"
                chart.bar(left, right, number / totals[label], said, colour)
        chart.legend(f"{label} ({totals[label]})", colour)
    for label, threshold in thresholds.items():
        chart.threshold(threshold, f"{label} {threshold:.3f}")
    return figure(chart, f"{name}: calibrated probabilities by label, with the thresholds.")


def slices(title: str, parts: Sequence[tuple[str, str, int, float | None]], among: str = "rows") -> str:
    """A share for each slice: kind, name, how many it is a share of, and the share, left out where it is None.

    ``among`` is what is counted.
    """
    bars = [(kind, name, rows, share) for kind, name, rows, share in parts if share is not None]
    highest = max((share for *_, share in bars), default=0.0)
    chart = Chart(title.capitalize(), "", f"share {title}", x=(0, max(1, len(bars))), y=(0, highest or 1), height=220)
    chart.categories = tuple(name for _, name, _, _ in bars)
    for at, (kind, name, rows, share) in enumerate(bars):
        chart.bar(at + 0.1, at + 0.9, share, f"{kind} {name}: {share:.1%} of {rows} {among}", BLUE)
    kinds = list(dict.fromkeys(kind for kind, *_ in bars if kind != "all"))
    return figure(chart, f"{title.capitalize()}, by {', '.join(kinds)}." if kinds else f"{title.capitalize()}.")
