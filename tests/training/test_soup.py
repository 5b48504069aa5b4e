"""Averaging runs: the mean of their weights, and refusals by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.errors import ModelError
from training.data.rows import DataError
from training.recipe import load_recipe, overridden
from training.soup import soup


def recipe_named(name, licences="all"):
    recipe = overridden(load_recipe("tinysafe"), licences=licences)
    return recipe.model_copy(update={"name": name}).model_dump_json()


def run(folder, value, *, shape=(2, 3), recipe="a", licences="all"):
    folder.mkdir()
    save_file({"w": torch.full(shape, value), "ids": torch.arange(4)}, folder / "best.safetensors")
    (folder / "recipe.json").write_text(recipe_named(recipe, licences))
    return folder


def test_the_command_writes_the_weighted_mean_with_the_last_recipe(tmp_path):
    first, second = run(tmp_path / "a", 1.0), run(tmp_path / "b", 4.0, recipe="b")
    command = [sys.executable, "-m", "training.soup", str(tmp_path / "out"), f"{first}:1", f"{second}:2"]
    subprocess.run(command, check=True, timeout=120)
    mean = load_file(tmp_path / "out" / "best.safetensors")
    torch.testing.assert_close(mean["w"], torch.full((2, 3), 3.0))
    assert torch.equal(mean["ids"], torch.arange(4))
    assert (tmp_path / "out" / "recipe.json").read_text() == recipe_named("b")
    assert (tmp_path / "out" / "origin.txt").read_text() == "the mean of runs: 0.33 of a, 0.67 of b"


def test_other_networks_and_unfinished_runs_are_refused_and_nothing_is_written(tmp_path):
    first, other = run(tmp_path / "a", 1.0), run(tmp_path / "b", 4.0, shape=(3, 2))
    with pytest.raises(ModelError, match="another network"):
        soup([(first, 1), (other, 1)], tmp_path / "out")
    with pytest.raises(DataError, match="no finished run"):
        soup([(first, 1), (tmp_path, 1)], tmp_path / "out")
    with pytest.raises(DataError, match="two or more"):
        soup([(first, 1)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_soup_of_permissive_terms_takes_no_other_run(tmp_path):
    free, bound = run(tmp_path / "a", 1.0, licences="permissive"), run(tmp_path / "b", 4.0)
    with pytest.raises(DataError, match=f"{bound} was trained on sets that are not permissive"):
        soup([(bound, 1), (free, 1)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    soup([(free, 1), (bound, 1)], tmp_path / "out")  # under the terms of the last one, which are the stricter
