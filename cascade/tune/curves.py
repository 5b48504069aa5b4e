"""What the report draws: a sample and rules -> what decides each row, slices by language and length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cascade.tune.outcomes import Outcomes, Rules, outcomes
from cascade.tune.sample import Bools, Floats, Sample

LENGTHS = ((1, 16), (17, 64), (65, 256), (257, None))  # tokens
LEAST_IN_SLICE = 10


def final(rows: Sample, rules: Rules, threshold1: float, done: Outcomes) -> tuple[Floats, Floats]:
    """The probability that decides each row, and its threshold."""
    probability = np.where(done.escalated, rows.merged, rows.stage1)
    return probability, np.where(done.escalated, rules.unsafe_threshold, threshold1)


@dataclass(frozen=True)
class Slice:
    """Rows of one kind: how many, and the shares escalated, missed and falsely alarmed; None where nothing counts.

    Missed is a share of the ``unsafe`` rows, falsely alarmed one of the ``harmless`` ones.
    """

    kind: str
    name: str
    rows: int
    unsafe: int
    harmless: int
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
        int((inside & rows.unsafe).sum()),
        int((inside & rows.harmless).sum()),
        float(done.escalated[inside].mean()),
        share(~done.unsafe, rows.unsafe),
        share(done.unsafe, rows.harmless),
    )
