"""Held-out rows by set: in no training part, once each, with the categories that are known."""

from __future__ import annotations

import json
from math import nan

from cascade.evaluate.rows import parse_row
from stages.taxonomy import HAZARD_SLUGS, TINYSAFE_CATEGORIES
from training.data.groups import fingerprint
from training.data.mix import Example, Splits
from training.held_out_sets import held_out_sets

UNKNOWN = (nan,) * len(TINYSAFE_CATEGORIES)


def example(text: str, name: str = "bread", unsafe: float = 1.0, cells: tuple[float, ...] = UNKNOWN) -> Example:
    return Example(text, "source", name, "en", unsafe, cells)


def test_rows_that_some_recipe_trains_on_are_left_out_and_the_rest_comes_by_set() -> None:
    cells = (1.0, 0.0, *UNKNOWN[2:])
    first = Splits({"s": [example("seen")]}, [example("one", cells=cells), example("Two")], [example("SEEN!")], {})
    hazards = (nan,) * len(HAZARD_SLUGS)
    second = Splits({}, [example("one", cells=hazards)], [example("three", "rye", nan, hazards)], {})
    sets = held_out_sets([first, second], {("rye", fingerprint("three")): 1, ("bread", fingerprint("one")): 0})
    assert {name: [row["text"] for row in rows] for name, rows in sets.items()} == {
        "bread": ["one", "Two"],
        "rye": ["three"],
    }
    one, three = sets["bread"][0], sets["rye"][0]
    assert one["categories"] == {"violence": 1, "hate": 0}
    assert one["unsafe"] == 1, "the recipe's label goes before the set's own"
    assert three["unsafe"] == 1
    assert len({row["id"] for rows in sets.values() for row in rows}) == 3


def test_what_is_written_is_read_by_eval() -> None:
    (rows,) = held_out_sets([Splits({}, [example("one", cells=(1.0, *UNKNOWN[1:]))], [], {})]).values()
    row = parse_row(json.dumps(rows[0]), "here")
    assert row.categories == {"violence": True}
    assert row.unsafe is True
