"""Each way of sampling draws what its seed's trainer drew, and a smaller analogue stays within its rows."""

from __future__ import annotations

from collections import Counter

import pytest

from training.data.mix import Example
from training.data.rows import DataError
from training.draws import draws, effective_shares, number_of_draws, rows_to_train_on
from training.recipe import Data, Loss, Recipe, Source, Train

NAN = float("nan")


def example(source: str, number: int, unsafe: float = 0.0, labels: tuple[float, ...] = (NAN, NAN)) -> Example:
    return Example(f"{source} {number}", source, source, "en", unsafe, labels)


ROWS = {
    "large": [example("large", n) for n in range(90)],
    "small": [example("small", n, 1.0, (1.0, 0.0) if n % 3 else (0.0, 1.0)) for n in range(30)],
}


def data(sampling: str, **options: object) -> Data:
    sources = [Source(name="large", sets=["large"]), Source(name="small", share=3, sets=["small"])]
    return Data(sampling=sampling, sources=sources, **options)


def recipe(**options: object) -> Recipe:
    fields = {"name": "r", "system": "tinysafe", "base": "b", "data": data("rows")}
    return Recipe(**{**fields, "train": Train(epochs=2, learning_rate=1e-3, seed=2), **options})


def test_rows_come_once_an_epoch_in_a_new_order() -> None:
    drawn = [e.text for e in draws(ROWS, data("rows"), 240, seed=1)]
    assert sorted(drawn[:120]) == sorted(drawn[120:]) == sorted(e.text for rows in ROWS.values() for e in rows)
    assert drawn[:120] != drawn[120:]
    assert drawn == [e.text for e in draws(ROWS, data("rows"), 240, seed=1)]


@pytest.mark.parametrize(("sampling", "small"), [("shares", 0.75), ("weights", 0.5), ("rows", 0.25)])
def test_a_source_has_the_share_that_the_sampling_gives_it(sampling: str, small: float) -> None:
    counts = Counter(e.source for e in draws(ROWS, data(sampling), 6000, seed=2))
    assert counts["small"] / 6000 == pytest.approx(small, abs=0.03)
    shares = effective_shares(ROWS, data(sampling))
    assert shares["small"] / sum(shares.values()) == pytest.approx(small)


def test_classes_are_drawn_alike_however_rare() -> None:
    drawn = list(draws(ROWS, data("classes"), 3000, seed=3))
    assert {e.source for e in drawn} == {"small"}
    assert sum(e.labels[0] for e in drawn) / 3000 == pytest.approx(0.5, abs=0.04)


def test_an_analogue_keeps_to_its_rows_and_to_the_mix() -> None:
    cut = rows_to_train_on(ROWS, recipe(data=data("shares", max_rows=24)))
    sizes = {name: len(rows) for name, rows in cut.items()}
    assert sum(sizes.values()) == 24
    assert sizes["small"] > sizes["large"]
    assert number_of_draws(cut, recipe(data=data("shares", max_rows=24))) == 48


def test_rows_that_teach_nothing_are_left_out() -> None:
    softmax = recipe(loss=Loss(binary="none", labels="softmax"))
    assert set(rows_to_train_on(ROWS, softmax)) == {"small"}
    with pytest.raises(DataError, match="no row"):
        rows_to_train_on({"large": ROWS["large"]}, softmax)


def test_a_recipe_has_one_length_and_some_loss() -> None:
    for wrong in ({}, {"draws": 3, "epochs": 1}):
        with pytest.raises(ValueError, match="either draws or epochs"):
            Train(learning_rate=1e-3, **wrong)
    with pytest.raises(ValueError, match="nothing to learn"):
        Loss(binary="none", labels="none")
