"""Every system of the seeds: a small recipe trains, and what it saved loads again as a stage that has learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.errors import ModelError
from stages.registry import load_stage
from stages.stage import Stage
from stages.taxonomy import DUOGUARD_LABELS, HAZARD_SLUGS, LEGACY9, TINYSAFE_CATEGORIES
from tests.training.backbones import (
    TEXTS,
    deberta_backbone,
    decoder_backbone,
    is_unsafe,
    modernbert_backbone,
    unigram_backbone,
    write_set,
)
from training.draws import number_of_draws
from training.recipe import RECIPES, Recipe, load_recipe, overridden
from training.run import run

FEW = {
    "data": {
        "max_tokens": 48,
        "validation": 0.2,
        "calibration": 0.2,
        "sources": [{"name": "prompts", "sets": ["jailjudge_id"]}],
    },
    "train": {"epochs": 12, "batch_size": 8, "learning_rate": 5e-3, "patience": 9},
}


def small(name: str, **sections: dict) -> Recipe:
    """An included recipe with a small window, one set, and rates that a tiny network learns with."""
    full = load_recipe(name).model_dump()
    for section, values in {**FEW, **{key: FEW.get(key, {}) | value for key, value in sections.items()}}.items():
        full[section] = full[section] | values
    full["train"] |= {"accumulate": min(2, full["train"]["accumulate"]), "validate_every": None, "draws": None}
    full["data"]["sampling"] = load_recipe(name).data.sampling
    return Recipe.model_validate(full)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_set(tmp_path / "data", "jailjudge_id", {0: ["SNA"], 1: ["S2"]})
    return tmp_path / "data"


def scores(stage: Stage, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    found = [stage.score([window])[0] for text in texts for window in stage.encode(text).windows]
    return np.array([one.unsafe for one in found]), np.array([one.labels for one in found])


def tells_apart(stage: Stage) -> bool:
    unsafe, _ = scores(stage, TEXTS)
    said = np.array([is_unsafe(text) for text in TEXTS], bool)
    return float((unsafe[said][:, None] > unsafe[~said][None, :]).mean()) > 0.9


def test_every_seed_has_a_recipe() -> None:
    names = {path.stem for path in RECIPES.glob("*.toml")}
    assert names >= {
        "tinysafe", "tinysafe-v1", "tinysafe-v2", "hazard", "hazard-legacy9", "constitutional", "duoguard",
        "judge",
    }  # fmt: skip
    for name in names:
        analogue = overridden(load_recipe(name), epochs=1, max_rows=7)
        assert (analogue.name, analogue.data.max_rows) == (name, 7)
        assert number_of_draws({"a": [None] * 7}, analogue) == 7


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tinysafe_trains_on_deberta_and_is_saved_as_published(tmp_path: Path, data: Path, version: str) -> None:
    base = deberta_backbone(tmp_path / "base")
    manifest = run(small(f"tinysafe-{version}", regularise={"ema_decay": 0.9}), data, tmp_path / "out", str(base))
    stage = load_stage(tmp_path / "out" / "model")
    assert stage.info.revision == manifest.revision
    assert stage.info.labels == TINYSAFE_CATEGORIES
    assert tells_apart(stage)
    published = load_stage(tmp_path / "out" / "published")
    assert published.info.name == f"tinysafe-{version}"
    difference = np.abs(scores(published, TEXTS[::9])[0] - scores(stage, TEXTS[::9])[0])
    assert difference.mean() < 0.3  # the model folder is int8


@pytest.mark.slow
def test_legacy_hazards_train_on_modernbert_and_are_saved_as_an_adapter(tmp_path: Path, data: Path) -> None:
    base = modernbert_backbone(tmp_path / "base")
    run(small("hazard-legacy9"), data, tmp_path / "out", str(base))
    for folder in ("model", "published"):
        stage = load_stage(tmp_path / "out" / folder)
        assert stage.info.labels == tuple(slug for _, slug in LEGACY9)
        assert not stage.info.judges
        _, labels = scores(stage, [text for text in TEXTS if is_unsafe(text)])
        assert set(labels.argmax(1)) == {stage.info.labels.index("nonviolent_crimes")}
    config = json.loads((tmp_path / "out" / "published" / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"}


@pytest.mark.slow
def test_legacy_hazards_train_on_another_encoder(tmp_path: Path, data: Path) -> None:
    run(small("hazard-legacy9"), data, tmp_path / "out", str(unigram_backbone(tmp_path / "base")))
    assert not load_stage(tmp_path / "out" / "model").info.judges
    assert not (tmp_path / "out" / "published").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "labels"), [("duoguard", DUOGUARD_LABELS), ("constitutional", ()), ("judge", HAZARD_SLUGS)]
)
def test_a_decoder_trains_and_is_saved_as_published(
    tmp_path: Path, data: Path, name: str, labels: tuple[str, ...]
) -> None:
    base = decoder_backbone(tmp_path / "base")
    manifest = run(small(name), data, tmp_path / "out", str(base))
    stage = load_stage(tmp_path / "out" / "model")
    assert (stage.info.revision, stage.info.labels) == (manifest.revision, labels)
    assert tells_apart(stage)
    assert len(stage.calibration.labels) == len(labels)
    assert stage.calibration.unsafe(1.0) != pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    assert "trained.json" in stage.info.files
    assert (stage.info.name, stage.info.licence) == (name, manifest.licence)
    card = (tmp_path / "out" / "CARD.md").read_text()
    assert manifest.revision in card
    together = stage.score([stage.encode(text).windows[0] for text in TEXTS[:9]])
    alone, _ = scores(stage, TEXTS[:9])
    assert np.allclose([one.unsafe for one in together], alone, atol=1e-4)
    (tmp_path / "out" / "model" / "trained.json").write_text('{"name": "other"}')
    with pytest.raises(ModelError, match=r"trained\.json"):
        load_stage(tmp_path / "out" / "model")


@pytest.fixture(autouse=True)
def one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
