"""How a label is read: what it says of TinySafe's 7 categories and of the 14 hazards, 1, 0 or unknown.

A label that a set does not have is unknown, never negative. An unsafe row says 1 for what its labels map to and 0 for
the other labels that its set *can* express, except those that the label leaves open. A row whose labels map to nothing
says nothing. A safe row of a set of prompts is free of every hazard; a safe row of a set about one thing (toxicity,
sexism) is free of that thing only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from stages.taxonomy import HAZARD_INDEX, SLUG_OF_CODE, TINYSAFE_CATEGORIES
from training.data.rows import Row

UNKNOWN = math.nan
CATEGORY_INDEX = {name: index for index, name in enumerate(TINYSAFE_CATEGORIES)}


@dataclass(frozen=True)
class Meaning:
    """What one label says: hazards and categories that hold, and hazards that it leaves open."""

    hazards: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


def means(hazards: str = "", categories: str = "", open: str = "") -> Meaning:
    """A meaning from space-separated S-numbers and category names."""
    held, left_open = (tuple(SLUG_OF_CODE[code] for code in codes.split()) for codes in (hazards, open))
    return Meaning(held, tuple(categories.split()), left_open)


@dataclass(frozen=True)
class LabelMap:
    """How to read a set: the meaning of each label, or of every unsafe row, and what its safe rows exclude.

    ``exclusive`` is false where rows were labelled for one thing each and nobody looked for the others: then a label
    says nothing against the set's other labels.
    """

    labels: dict[str, Meaning] = field(default_factory=dict)
    unsafe: Meaning | None = None
    safe_excludes_all: bool = True
    exclusive: bool = True

    def meanings(self, row: Row) -> list[Meaning]:
        """The meanings of a row's labels."""
        found = [self.labels[label] for label in row.labels if label in self.labels]
        return found or ([self.unsafe] if self.unsafe is not None else [])

    def _scheme(self) -> list[Meaning]:
        return [*self.labels.values(), *([self.unsafe] if self.unsafe is not None else [])]

    def hazard_cells(self, row: Row) -> list[float]:
        """14 cells, in canonical order."""
        scheme = {slug for meaning in self._scheme() for slug in meaning.hazards}
        held = {slug for meaning in self.meanings(row) for slug in meaning.hazards}
        left_open = {slug for meaning in self.meanings(row) for slug in meaning.open}
        return self._cells(row, HAZARD_INDEX, scheme, held, left_open)

    def category_cells(self, row: Row) -> list[float]:
        """7 cells, in TinySafe's order."""
        scheme = {name for meaning in self._scheme() for name in meaning.categories}
        held = {name for meaning in self.meanings(row) for name in meaning.categories}
        return self._cells(row, CATEGORY_INDEX, scheme, held, set())

    def _cells(
        self, row: Row, index: dict[str, int], scheme: set[str], held: set[str], left_open: set[str]
    ) -> list[float]:
        if row.unsafe == 0:
            return [0.0 if self.safe_excludes_all or name in scheme else UNKNOWN for name in index]
        cells = [UNKNOWN] * len(index)
        if self.exclusive and (held or left_open):
            for name in scheme - left_open:
                cells[index[name]] = 0.0
        for name in held:
            cells[index[name]] = 1.0
        return cells
