"""How far two judges agree: equal verdicts, Cohen's kappa, and equal hazards among what both call unsafe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.data.verdicts import Verdict


@dataclass(frozen=True)
class Agreement:
    """Figures of some verdicts.

    Attributes:
        rows: how many texts both judged.
        equal: share of them on which both say the same: safe, unsafe or unclear.
        kappa: the same, corrected for chance (Cohen 1960); None where chance alone would have them agree always.
        both_unsafe: how many both call unsafe, and ``equal_hazards``: the share of those with equal hazards.
        left_out: how many have no final verdict, because the judges differ and no third one decided.
    """

    rows: int
    equal: float
    kappa: float | None
    both_unsafe: int
    equal_hazards: float | None
    left_out: int


def agreement(verdicts: Sequence[Verdict]) -> Agreement:
    """The figures of at least one verdict."""
    pairs = [(verdict.judge_a.unsafe, verdict.judge_b.unsafe) for verdict in verdicts]
    unsafe = [verdict for verdict, pair in zip(verdicts, pairs, strict=True) if pair == (True, True)]
    same = sum(verdict.judge_a.hazards == verdict.judge_b.hazards for verdict in unsafe)
    return Agreement(
        rows=len(pairs),
        equal=sum(a == b for a, b in pairs) / len(pairs),
        kappa=kappa(pairs),
        both_unsafe=len(unsafe),
        equal_hazards=same / len(unsafe) if unsafe else None,
        left_out=sum(verdict.final is None for verdict in verdicts),
    )


def kappa(pairs: Sequence[tuple[bool | None, bool | None]]) -> float | None:
    """Cohen's kappa of two judges' answers, row by row."""
    total = len(pairs)
    observed = sum(a == b for a, b in pairs) / total
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(first[answer] * second[answer] for answer in first) / total**2
    return None if chance == 1 else (observed - chance) / (1 - chance)
