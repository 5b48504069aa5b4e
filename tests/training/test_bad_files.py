"""Files that are damaged or do not belong together are refused in one line, before anything is trained on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.errors import CascadeError, ModelError
from tests.stages.publishing import cut_off, rewrite
from tests.training.backbones import deberta_backbone, decoder_backbone, word_piece_backbone
from training.data.rows import DataError, licence_classes
from training.finished import best_weights, load_best, recipe_of
from training.recipe import load_recipe
from training.systems import build_system

MAKE: dict[str, Callable[[Path], Path]] = {
    "tinysafe-v1": word_piece_backbone,
    "tinysafe-v2": deberta_backbone,
    "duoguard": decoder_backbone,
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good backbone for each of a few recipes."""
    root = tmp_path_factory.mktemp("bases")
    return {name: make(root / name) for name, make in MAKE.items()}


def without_a_weight(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("layers.0.self_attn.q_proj.weight")))
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def with_more_pieces_than_rows(base: Path) -> None:
    rewrite(base / "config.json", vocab_size=900)
    weights = load_file(base / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file(weights | {name: weights[name][:900].clone()}, base / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("recipe", "spoil", "named"),
    [
        ("tinysafe-v1", lambda base: cut_off(base / "model.safetensors"), "SafetensorError"),
        ("duoguard", lambda base: cut_off(base / "model.safetensors"), "SafetensorError"),
        ("duoguard", without_a_weight, "lack model.layers.0.self_attn.q_proj.weight"),
        ("tinysafe-v1", lambda base: (base / "config.json").write_text("{"), "config.json"),
        ("tinysafe-v1", lambda base: cut_off(base / "tokenizer.json"), "tokenizer.json: not a tokenizer"),
        ("tinysafe-v2", lambda base: cut_off(base / "spm.model"), "spm.model: not a SentencePiece model"),
        ("tinysafe-v1", with_more_pieces_than_rows, "the embedding table has 900 rows"),
    ],
)
def test_a_bad_base_is_refused(
    bases: dict[str, Path], tmp_path: Path, recipe: str, spoil: Callable[[Path], object], named: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases[recipe], base)
    build_system(load_recipe(recipe), base)
    spoil(base)
    with pytest.raises(ModelError) as refused:
        build_system(load_recipe(recipe), base)
    assert str(base) in str(refused.value)
    assert named in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("content", ["[{", '[{"licence": "MIT"}]', '{"set": 1}', "3"])
def test_a_bad_manifest_of_data_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "MANIFEST.json").write_text(content)
    with pytest.raises(DataError, match=r"MANIFEST\.json: not a list of sets"):
        licence_classes(tmp_path)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run of a network of one weight."""
    save_file({"weight": torch.ones(3, 2)}, tmp_path / "best.safetensors")
    (tmp_path / "recipe.json").write_text(load_recipe("tinysafe").model_dump_json())
    return tmp_path


def test_what_a_run_left_is_read_back_or_named(finished: Path) -> None:
    network = torch.nn.Linear(2, 3)
    load_best(network, finished)
    assert torch.equal(network.weight, torch.ones(3, 2))
    assert recipe_of(finished).name == "tinysafe"
    for other, named in ((torch.nn.Linear(2, 4), r"weight is \[3, 2\], here \[4, 2\]"), (torch.nn.ReLU(), "weight")):
        with pytest.raises(ModelError, match=f"another network.*{named}"):
            load_best(other, finished)
    cut_off(finished / "best.safetensors")
    with pytest.raises(ModelError, match=r"best\.safetensors: .*cut off"):
        best_weights(finished)
    (finished / "recipe.json").write_text('{"name": "tinysafe"')
    with pytest.raises(CascadeError, match=r"recipe\.json"):
        recipe_of(finished)
    (finished / "best.safetensors").unlink()
    with pytest.raises(DataError, match="no finished run"):
        best_weights(finished)
