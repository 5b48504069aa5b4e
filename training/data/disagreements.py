"""Rows whose label the served models contradict most: what is worth being read and judged again.

Only rows of a set with a binary label count, each text once. How far models and label are apart is the mean of both
stages' distance to the label, so that a row on which both err alike comes first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.rows import DataError, Row, find_set, read_set
from training.data.verdicts import verdict_id
from training.data.written import WRITTEN, read_written
from training.recipe import Recipe


@dataclass(frozen=True)
class Contradicted:
    """A row, what both stages say of it (calibrated probabilities of unsafe), and how far that is from its label."""

    row: Row
    stage1: float
    stage2: float

    @property
    def distance(self) -> float:
        """0: both are sure of the label. 1: both are sure of its contrary."""
        label = float(self.row.unsafe or 0)
        return (abs(label - self.stage1) + abs(label - self.stage2)) / 2


def sets_of(recipes: Sequence[Recipe]) -> list[str]:
    """The sets that the recipes take binary labels from, each once."""
    return list(
        dict.fromkeys(
            name for recipe in recipes for source in recipe.data.sources if source.binary for name in source.sets
        )
    )


def candidates(folder: Path, names: Sequence[str], known: Mapping[str, object], rows_a_set: int) -> list[Row]:
    """Labelled prompts that were not judged yet, at most so many of each set: those of the smallest fingerprints.

    Raises:
        DataError: a set is missing or malformed.
    """
    seen, chosen = set(known), list[Row]()
    for name in names:
        fresh: dict[str, Row] = {}
        for row in read_written(name) if name in WRITTEN else read_set(find_set(folder, name)):
            key = verdict_id(row.text)
            if row.unsafe is not None and row.response is None and row.text.strip() and key not in seen:
                fresh.setdefault(key, row)
        kept = sorted(fresh)[:rows_a_set]
        seen.update(kept)
        chosen += [fresh[key] for key in kept]
    return chosen


def most_contradicted(rows: Sequence[Contradicted], count: int, per_set: int) -> Iterator[Contradicted]:
    """The ``count`` rows that are farthest from their labels, at most ``per_set`` of a set, the farthest first."""
    taken: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: (-row.distance, verdict_id(row.row.text))):
        if taken.total() == count:
            return
        if taken[row.row.dataset] < per_set:
            taken[row.row.dataset] += 1
            yield row


def read_sets(path: Path) -> dict[str, str]:
    """The set of each id in a file that ``cascade data disagreements`` wrote.

    Raises:
        DataError: a line is none of its lines.
    """
    found: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                found[row["id"]] = row["set"]
            except (ValueError, TypeError, KeyError):
                raise DataError(f"{path.name}:{number}: not a line with 'id' and 'set'") from None
    return found
