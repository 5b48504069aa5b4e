"""What a recipe draws from: licences are kept to, sources have their shares, contradictions are left out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cascade.cli import app
from stages.errors import ModelError
from tests.training.backbones import write_set
from training.data.mix import build_splits, draw
from training.data.rows import DataError
from training.recipe import Data, Source


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path, "open_set", {0: [], 1: []})
    (tmp_path / "closed_set.jsonl").write_text(json.dumps({"id": "c", "text": "a text of its own", "unsafe": 0}) + "\n")
    classes = {"open_set": "permissive", "closed_set": "non-commercial"}
    manifest = [{"set": name, "licence": kind, "licence_class": kind} for name, kind in classes.items()]
    (tmp_path / "MANIFEST.json").write_text(json.dumps(manifest))
    return tmp_path


def sources(*names: str, **options: float) -> list[Source]:
    return [Source(name=name, share=share, sets=[name], **options) for share, name in enumerate(names, 1)]


def test_permissive_means_permissive_only(data: Path) -> None:
    splits = build_splits(data, Data(licences="permissive", sources=sources("closed_set", "open_set")), "tinysafe")
    assert set(splits.sets) == {"open_set"}
    assert splits.left_out == {"closed_set": ("non-commercial", "non-commercial")}
    assert {e.dataset for e in [*splits.train["open_set"], *splits.validation, *splits.calibration]} == {"open_set"}
    with pytest.raises(DataError, match="permissive"):
        build_splits(data, Data(licences="permissive", sources=sources("closed_set")), "tinysafe")


def test_what_the_licence_filter_takes_away_is_printed_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "both.toml"
    recipe.write_text(
        'name = "both"\nsystem = "tinysafe"\nbase = "nowhere"\n[train]\ndraws = 16\nlearning_rate = 1e-3\n'
        + "".join(f'[[data.sources]]\nname = "{name[:-4]}"\nsets = ["{name}"]\n' for name in ("open_set", "closed_set"))
    )
    arguments = ["train", str(recipe), "--data", str(data), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--licences", "permissive"])
    assert "1 left out" in done.stderr
    assert "closed_set: non-commercial (non-commercial)" in done.stderr
    assert "sources without a set: closed" in done.stderr
    assert isinstance(done.exception, ModelError)  # there is no such base
    assert "left out" not in CliRunner().invoke(app, arguments).stderr


def test_draws_keep_shares_and_repeat(data: Path) -> None:
    chosen = sources("closed_set", "open_set", unsafe_share=0.9)
    splits = build_splits(data, Data(validation=0, calibration=0, sources=chosen), "tinysafe")
    drawn = list(draw(splits.train, chosen, 3000, seed=3))
    assert drawn == list(draw(splits.train, chosen, 3000, seed=3))
    counts = Counter(example.source for example in drawn)
    assert 0.30 < counts["closed_set"] / 3000 < 0.37
    unsafe = [example.unsafe for example in drawn if example.source == "open_set"]
    assert 0.87 < sum(unsafe) / len(unsafe) < 0.93


def test_copies_that_contradict_each_other_are_left_out(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": text, "unsafe": unsafe} for n, (text, unsafe) in enumerate(
        [("the same few words", 0), ("The same few words!", 1), ("quite another sentence", 0)]
    )]  # fmt: skip
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = build_splits(tmp_path, Data(validation=0, calibration=0, sources=sources("set")), "tinysafe")
    assert [example.text for example in splits.train["set"]] == ["quite another sentence"]
