"""Writes the rows that given recipes do not train on as a folder of sets, each under its name, for ``cascade eval``.

    python -m training.held_out_sets --data DIR --out DIR [--recipe NAME ...]

Recipes hold out different shares, so every recipe whose model is to be compared has to be named.
Beside the binary label a row has the categories of TinySafe that its own labels tell. Where a recipe uses no binary
label of a row, the label is the set's own. The files hold other people's texts: they belong beside the data, never into
the repository.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from stages.taxonomy import TINYSAFE_CATEGORIES
from training.data.groups import fingerprint
from training.data.mix import Example, Splits, build_splits
from training.data.rows import find_set, read_set
from training.data.writing import writing
from training.data.written import WRITTEN
from training.held_out import RECIPES, unseen
from training.recipe import load_recipe


def held_out_sets(
    splits: Iterable[Splits], own: Mapping[tuple[str, str], int | None] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Set name -> rows in the uniform form: validated or calibrated on by some split, in the training part of none.

    ``own`` has the sets' own binary labels, by set and fingerprint.
    """
    found: dict[str, dict[str, Any]] = {}
    for print_, example in unseen(list(splits)):
        row = found.setdefault(print_, {"set": example.dataset} | _row(example))
        row["categories"] |= _categories(example)
    own = own or {}
    sets: dict[str, list[dict[str, Any]]] = {}
    numbers: Counter[str] = Counter()
    for print_, row in found.items():
        name = row.pop("set")
        if row["unsafe"] is None:
            row["unsafe"] = own.get((name, print_))
        numbers[name] += 1
        sets.setdefault(name, []).append({"id": f"{name}-{numbers[name]}"} | row)
    return sets


def _row(example: Example) -> dict[str, Any]:
    unsafe = None if isnan(example.unsafe) else int(example.unsafe)
    return {"lang": example.lang, "text": example.text, "unsafe": unsafe, "labels": [], "categories": {}}


def _categories(example: Example) -> dict[str, int]:
    """The known cells of an example of TinySafe's; another system's cells say nothing of the categories."""
    if len(example.labels) != len(TINYSAFE_CATEGORIES):
        return {}
    cells = zip(TINYSAFE_CATEGORIES, example.labels, strict=True)
    return {name: int(cell) for name, cell in cells if not isnan(cell)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the sets into; made if need be")
    parser.add_argument("--recipe", action="append", help=f"may be repeated; default: {', '.join(RECIPES)}")
    options = parser.parse_args(arguments)
    recipes = [load_recipe(name) for name in options.recipe or RECIPES]
    names = {name for recipe in recipes for source in recipe.data.sources for name in source.sets} - set(WRITTEN)
    own = {
        (name, fingerprint(row.text)): row.unsafe
        for name in names
        for row in read_set(find_set(options.data, name))
        if row.response is None  # the label of a pair is never that of its prompt
    }
    sets = held_out_sets((build_splits(options.data, recipe.data, recipe.system) for recipe in recipes), own)
    for name, rows in sorted(sets.items()):
        path = options.out / f"{name}.held_out.jsonl"
        with writing(path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        print(f"{path.name}: {len(rows)} rows, {sum(row['unsafe'] == 1 for row in rows)} of them unsafe")


if __name__ == "__main__":
    main()
