"""Which rows a run trains on, how many texts it sees and in which order, by a recipe's ``sampling`` and seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import islice

from training.data.mix import Example, draw
from training.data.rows import DataError
from training.recipe import Data, Loss, Recipe, Source

Rows = dict[str, list[Example]]  # by source
PATIENCE = 50  # draws for each row that is wanted, before a small mix counts as exhausted


def rows_to_train_on(train: Rows, recipe: Recipe) -> Rows:
    """The rows that teach the recipe's network something, at most ``data.max_rows``: those that are drawn first.

    Raises:
        DataError: none of them does.
    """
    if recipe.loss.binary == "none":
        train = {name: [row for row in rows if _teaches(row, recipe.loss)] for name, rows in train.items()}
    train = {name: rows for name, rows in train.items() if rows}
    if not train:
        raise DataError(f"{recipe.name}: no row of its sets has a label that this system learns")
    limit, have = recipe.data.max_rows, sum(map(len, train.values()))
    if limit is None or have <= limit:
        return train
    chosen: dict[int, Example] = {}
    for example in draws(train, recipe.data, limit * PATIENCE, recipe.train.seed):
        chosen.setdefault(id(example), example)
        if len(chosen) == limit:
            break
    kept: Rows = {}
    for example in chosen.values():
        kept.setdefault(example.source, []).append(example)
    return kept


def number_of_draws(train: Rows, recipe: Recipe) -> int:
    """Texts that the run sees in all."""
    if recipe.train.draws is not None:
        return recipe.train.draws
    return math.ceil((recipe.train.epochs or 0) * sum(map(len, train.values())))


def effective_shares(train: Rows, data: Data) -> dict[str, float]:
    """The share of all draws that falls on each source, relative to the others."""
    if data.sampling == "shares":
        return {source.name: source.share for source in data.sources}
    weighted = data.sampling == "weights"
    return {
        source.name: (source.share if weighted else 1.0) * max(1, len(train.get(source.name, [])))
        for source in data.sources
    }


def draws(train: Rows, data: Data, count: int, seed: int) -> Iterator[Example]:
    """``count`` texts in the order of the recipe's sampling; the same seed draws the same texts."""
    if data.sampling == "rows":
        return islice(_epochs(train, seed), count)
    if data.sampling == "classes":
        return islice(_by_class(train, seed), count)
    shares = effective_shares(train, data)
    sources: list[Source] = [source.model_copy(update={"share": shares[source.name]}) for source in data.sources]
    return draw(train, sources, count, seed)


def _epochs(train: Rows, seed: int) -> Iterator[Example]:
    rng = random.Random(seed)
    rows = [example for members in train.values() for example in members]
    while rows:
        rng.shuffle(rows)
        yield from rows


def _by_class(train: Rows, seed: int) -> Iterator[Example]:
    """A class by chance, each as likely as the others, then one of its rows: rare classes are oversampled."""
    rng = random.Random(seed)
    classes: dict[int, list[Example]] = {}
    for members in train.values():
        for example in members:
            if 1.0 in example.labels:
                classes.setdefault(example.labels.index(1.0), []).append(example)
    names = sorted(classes)
    while names:
        yield rng.choice(classes[rng.choice(names)])


def _teaches(example: Example, loss: Loss) -> bool:
    known = [cell for cell in example.labels if not math.isnan(cell)]
    return 1.0 in known if loss.labels == "softmax" else bool(known)
