"""What the report draws: a sample and rules -> risk over coverage, quality over cost, slices by language and length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cascade.tune.outcomes import Outcomes, Rules, outcomes
from cascade.tune.sample import Bools, Floats, Sample, logit

Points = list[tuple[float, float]]
POINTS = 200  # of a curve; more cannot be seen
LENGTHS = ((1, 16), (17, 64), (65, 256), (257, None))  # tokens
LEAST_IN_SLICE = 10


def risk_coverage(probability: Floats, decided: Bools, unsafe: Bools, threshold: Floats) -> tuple[Points, float]:
    """The share of wrong decisions among the surest texts, for every share of texts; and the mean of it, AURC.

    How sure a decision is, is the distance of its logit from that of its threshold. El-Yaniv and Wiener (2010).
    """
    order = np.argsort(-np.abs(logit(probability) - logit(threshold)), kind="stable")
    risk = np.cumsum((decided != unsafe)[order]) / np.arange(1, len(order) + 1)
    coverage = np.arange(1, len(order) + 1) / len(order)
    return _thin(coverage, risk), float(risk.mean())


def final(rows: Sample, rules: Rules, threshold1: float, done: Outcomes) -> tuple[Floats, Floats]:
    """The probability that decides each row, and its threshold."""
    probability = np.where(done.escalated, rows.merged, rows.stage1)
    return probability, np.where(done.escalated, rules.unsafe_threshold, threshold1)


@dataclass(frozen=True)
class CostQuality:
    """F1 over the share that is escalated, by who chooses what is: the band, chance, or one who knows the answers."""

    band: Points
    random: Points
    oracle: Points


def cost_quality(rows: Sample, rules: Rules, threshold1: float) -> CostQuality:
    """F1 of the cascade at each cost. What passes is decided by stage 1, what is escalated by the merged score.

    The oracle escalates first what only the merged score gets right, and last what only stage 1 gets right.
    """
    unsafe = rows.unsafe
    alone, both = rows.stage1 >= threshold1, rows.merged >= rules.unsafe_threshold
    gain = (both == unsafe).astype(int) - (alone == unsafe).astype(int)
    shares = np.arange(len(rows) + 1) / len(rows)
    ends = [_f1_parts(decided, unsafe) for decided in (alone, both)]
    mixed = [(1 - shares) * first + shares * second for first, second in zip(*ends, strict=True)]
    return CostQuality(
        band=_thin(shares, _f1_over(alone, both, unsafe, np.argsort(-rows.stage1, kind="stable"))),
        random=_thin(shares, 2 * mixed[0] / np.maximum(1.0, mixed[0] + mixed[1] + unsafe.sum())),
        oracle=_thin(shares, _f1_over(alone, both, unsafe, np.argsort(-gain, kind="stable"))),
    )


@dataclass(frozen=True)
class Slice:
    """Rows of one kind: how many, and the shares escalated, missed and falsely alarmed; None where nothing counts."""

    kind: str
    name: str
    rows: int
    escalated: float
    missed: float | None
    false: float | None


def slices(rows: Sample, rules: Rules) -> Iterator[Slice]:
    """All rows, then by language, the most frequent first, then by length; kinds with few rows are left out."""
    done = outcomes(rows, rules)
    yield _slice("all", "all", np.ones(len(rows), dtype=bool), rows, done)
    names, counts = np.unique(rows.lang, return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")]:
        if (rows.lang == name).sum() >= LEAST_IN_SLICE:
            yield _slice("language", str(name) or "not said", rows.lang == name, rows, done)
    for least, most in LENGTHS:
        inside = (rows.tokens >= least) & (rows.tokens <= (np.inf if most is None else most))
        if inside.sum() >= LEAST_IN_SLICE:
            yield _slice("tokens", f"{least}–{most}" if most else f"from {least}", inside, rows, done)


def _slice(kind: str, name: str, inside: Bools, rows: Sample, done: Outcomes) -> Slice:
    def share(failed: Bools, among: Bools) -> float | None:
        return float(failed[inside & among].mean()) if (inside & among).any() else None

    return Slice(
        kind,
        name,
        int(inside.sum()),
        float(done.escalated[inside].mean()),
        share(~done.unsafe, rows.unsafe),
        share(done.unsafe, rows.harmless),
    )


def _f1_parts(decided: Bools, unsafe: Bools) -> tuple[float, float]:
    return float((decided & unsafe).sum()), float((decided & ~unsafe).sum())


def _f1_over(alone: Bools, both: Bools, unsafe: Bools, order: np.typing.NDArray[np.int_]) -> Floats:
    """F1 after each further row of the order is escalated, none to all."""
    hits, alarms = _f1_parts(alone, unsafe)
    change = both[order].astype(int) - alone[order].astype(int)
    hit = hits + np.concatenate([[0], np.cumsum(change * unsafe[order])])
    alarm = alarms + np.concatenate([[0], np.cumsum(change * ~unsafe[order])])
    found: Floats = 2 * hit / np.maximum(1.0, hit + alarm + unsafe.sum())
    return found


def _thin(x: Floats, y: Floats) -> Points:
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int))
    return [(float(x[i]), float(y[i])) for i in kept]
