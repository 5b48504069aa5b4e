"""Looks for policies that keep every wish, on one half of the rows: *sample, wishes* -> a chain to test on the other.

Each candidate is the worth from which on stage 2 is asked (a band's lower bound), a threshold of the merged score,
and, for each hazard that a wish names, a threshold of that hazard. The chain goes from the candidate that keeps the
wishes most surely to the one that judges best, and has only those that judge better than all that are surer: the
Pareto front of Laufer-Goldshtein et al. (2022), "Efficiently controlling multiple risks with Pareto testing".

Where no row lies between several thresholds the rows cannot tell them apart, but other texts can: the middle is taken,
in logits, so that neither side is nearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.policy.binomial import log_tails
from cascade.routing.logits import logit
from cascade.tune.outcomes import Rules, alarm, escalated, hazard_scores
from cascade.tune.sample import Floats, Sample
from cascade.tune.wishes import Wish
from stages.stage import sigmoid
from stages.taxonomy import HAZARD_INDEX

DIGITS = 6  # of a threshold in the file; what is searched and tested is the rounded number
CUTS = 60  # quantiles of a score that are tried as thresholds
# How surely a hazard's threshold keeps the hazard's own wishes: p-values of delta to these powers.
SURENESS = (1.0, 1.5, 2.5, 4.0, 8.0)
ESCALATION_PRICE = 0.01  # to escalate everything must be worth one point of F1
STEP = 1e-3  # of quality from one candidate of the chain to the next


@dataclass(frozen=True)
class Candidates:
    """Policies with what they did on the searching half: a row each.

    ``bands`` are rules, and ``band`` says for each candidate which of them it has, ``threshold`` at which threshold of
    the merged score. ``log_p`` is the largest of the wishes' p-values, as a logarithm; ``failures`` has a column for
    each wish. ``quality`` is the mean F1 of the verdict and of each hazard that a wish names, less the price of
    escalation. ``scores`` are the merged ones of all rows.
    """

    bands: tuple[Rules, ...]
    band: NDArray[np.int_]
    threshold: Floats
    log_p: Floats
    quality: Floats
    failures: NDArray[np.int_]
    scores: Floats

    def rules(self, index: int) -> Rules:
        """The rules of one candidate, in the middle of the thresholds that do the same under the same band."""
        first = last = index
        while first > 0 and self._same(first - 1, index):
            first -= 1
        while last + 1 < len(self.band) and self._same(last + 1, index):
            last += 1
        threshold = middle(float(self.threshold[first]), float(self.threshold[last]), self.scores)
        return replace(self.bands[int(self.band[index])], unsafe_threshold=threshold)

    def _same(self, one: int, other: int) -> bool:
        return (
            self.band[one] == self.band[other]
            and self.quality[one] == self.quality[other]
            and bool((self.failures[one] == self.failures[other]).all())
        )

    def chain(self) -> list[Rules]:
        """The front, the surest first."""
        found: list[Rules] = []
        best = -np.inf
        for index in np.lexsort((-self.quality, self.log_p)):
            if self.quality[index] >= best + STEP:
                best = self.quality[index]
                found.append(self.rules(int(index)))
        return found


def search(rows: Sample, wishes: Sequence[Wish], start: Rules, delta: float, cuts: int = CUTS) -> Candidates:
    """Counts what every candidate does on the searching half; what no wish is about stays as in ``start``."""
    tables = [log_tails(int(rows.of(wish).sum()), wish.limit) for wish in wishes]
    hazards = sorted({HAZARD_INDEX[wish.hazard] for wish in wishes if wish.hazard})
    grid = np.unique(np.concatenate([_grid(rows.merged[part], cuts) for part in (rows.unsafe, rows.harmless)]))
    bands: list[Rules] = []
    counts: list[NDArray[np.int_]] = []
    qualities: list[Floats] = []
    for low in _lows(rows, start, cuts):
        banded = replace(start, low=low)
        scores = hazard_scores(rows, escalated(rows, banded))
        # One bar often gives the same thresholds as another: each set of them is tried once.
        for thresholds in dict.fromkeys(
            tuple(_hazard_threshold(rows, scores[:, h], h, wishes, tables, power * log(delta), cuts) for h in hazards)
            for power in SURENESS
        ):
            bands.append(with_thresholds(banded, hazards, thresholds))
            count, quality = _over_thresholds(rows, wishes, bands[-1], hazards, grid)
            counts.append(count)
            qualities.append(quality)
    failures = np.concatenate(counts)
    log_p = np.max([table[failures[:, j]] for j, table in enumerate(tables)], axis=0)
    band, threshold = np.repeat(np.arange(len(bands)), len(grid)), np.tile(grid, len(bands))
    return Candidates(tuple(bands), band, threshold, log_p, np.concatenate(qualities), failures, rows.merged)


def with_thresholds(rules: Rules, hazards: Sequence[int], thresholds: Sequence[float]) -> Rules:
    """Rules with other thresholds of some hazards; one that escalates does so at its threshold at the latest."""
    changed, escalate_at = rules.thresholds.copy(), rules.escalate_at.copy()
    for hazard, threshold in zip(hazards, thresholds, strict=True):
        changed[hazard] = threshold
        if escalate_at[hazard] <= 1:
            escalate_at[hazard] = min(escalate_at[hazard], threshold)
    return replace(rules, thresholds=changed, escalate_at=escalate_at)


def middle(first: float, last: float, scores: Floats) -> float:
    """The middle, in logits, of all thresholds that part the scores as those from ``first`` to ``last`` do; rounded."""
    ordered = np.sort(scores)
    below, above = np.searchsorted(ordered, (first, last)).tolist()
    low = float(ordered[below - 1]) if below else first
    high = float(ordered[above]) if above < len(ordered) else last
    found = round(sigmoid((logit(low) + logit(high)) / 2), DIGITS)
    return found if low < found <= high else last


def middle_of_best(thresholds: Floats, values: Floats, scores: Floats) -> float:
    """The middle of the thresholds with the largest value: of the first of them, and those right after it."""
    first = last = int(values.argmax())
    while last + 1 < len(values) and values[last + 1] == values[first]:
        last += 1
    return middle(float(thresholds[first]), float(thresholds[last]), scores)


def f1(hits: NDArray[Any], alarms: NDArray[Any], positives: int) -> Floats:
    """F1 of counts; 0 where there is nothing to find."""
    found: Floats = 2 * hits / np.maximum(1, hits + alarms + positives)
    return found


def _lows(rows: Sample, start: Rules, cuts: int) -> list[float]:
    """Worths from which on stage 2 may be asked; of those that escalate the same rows the middle."""
    grid = np.unique(np.append(_grid(rows.worth, cuts), start.low)).tolist()
    # The higher the bar the fewer rows: where there are as many they are the same ones.
    groups = groupby(grid, key=lambda low: int(escalated(rows, replace(start, low=low)).sum()))
    ends = [(group[0], group[-1]) for group in (list(lows) for _, lows in groups)]
    return [middle(*pair, rows.worth) for pair in ends]


def _over_thresholds(
    rows: Sample, wishes: Sequence[Wish], rules: Rules, hazards: Sequence[int], grid: Floats
) -> tuple[NDArray[np.int_], Floats]:
    """Failures of each wish and the quality, for every threshold of the merged score; all else is in ``rules``."""
    escalates = escalated(rows, rules)
    scores = hazard_scores(rows, escalates)
    flagged = (scores >= rules.thresholds) & (scores >= 0)
    # A row is unsafe from which threshold on? One that a hazard blocks at any, one that passes at none.
    unsafe_from = np.where((flagged & rules.blocks).any(axis=1), np.inf, alarm(rows, rules, escalates))
    hits, alarms = (_at_least(unsafe_from[part], grid) for part in (rows.unsafe, rows.harmless))
    columns = []
    for wish in wishes:
        if wish.kind == "escalation":
            column = np.full(len(grid), int(escalates.sum()))
        elif wish.hazard:
            positive = flagged[rows.of(wish), HAZARD_INDEX[wish.hazard]]
            column = np.full(len(grid), int((~positive if wish.kind == "missed_unsafe" else positive).sum()))
        else:
            column = int(rows.unsafe.sum()) - hits if wish.kind == "missed_unsafe" else alarms
        columns.append(column)
    qualities = [f1(hits, alarms, int(rows.unsafe.sum()))]
    for hazard in hazards:
        carries, flag = rows.carries[:, hazard], flagged[:, hazard]
        named = f1(np.array(flag[carries].sum()), np.array(flag[rows.harmless].sum()), int(carries.sum()))
        qualities.append(np.full(len(grid), float(named)))
    return np.stack(columns, axis=1), np.mean(qualities, axis=0) - ESCALATION_PRICE * escalates.mean()


def _hazard_threshold(
    rows: Sample, scores: Floats, hazard: int, wishes: Sequence[Wish], tables: Sequence[Floats], bar: float, cuts: int
) -> float:
    """Of the thresholds at which the hazard's own wishes have (log) p-values up to ``bar`` the one with the best F1.

    Where there is none, the one with the smallest p-value.
    """
    carries, harmless = scores[rows.carries[:, hazard]], scores[rows.harmless]
    # Nobody is flagged for a hazard of which nothing is known, however low the threshold.
    grid = _grid(np.concatenate([part[part >= 0] for part in (carries, harmless)]), cuts)
    hits, alarms = _at_least(carries, grid), _at_least(harmless, grid)
    worst = np.full(len(grid), -np.inf)
    for wish, table in zip(wishes, tables, strict=True):
        if wish.hazard and HAZARD_INDEX[wish.hazard] == hazard:
            worst = np.maximum(worst, table[len(carries) - hits if wish.kind == "missed_unsafe" else alarms])
    quality = f1(hits, alarms, len(carries))
    sure = worst <= bar
    known = np.concatenate([carries, harmless])
    return middle_of_best(grid, np.where(sure, quality, -1.0) if sure.any() else -worst, known[known >= 0])


def _grid(scores: Floats, quantiles: int) -> Floats:
    """Thresholds to try: quantiles of the scores, and 1 for "none"; rounded, so that the file holds them whole."""
    cuts = np.quantile(scores, np.linspace(0, 1, quantiles)) if len(scores) else np.empty(0)
    return np.unique(np.clip(np.round(np.append(cuts, 1.0), DIGITS), 0.0, 1.0))


def _at_least(scores: Floats, thresholds: Floats) -> NDArray[np.int_]:
    """How many scores reach each threshold."""
    found: NDArray[np.int_] = len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")
    return found
