"""A run that was stopped and taken up again ends with the weights of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.stages.publishing import cut_off
from tests.training.backbones import word_piece_backbone, write_set
from training import loop
from training.data.mix import build_splits
from training.data.rows import DataError
from training.loop import Trainer
from training.recipe import Data, Lora, Recipe, Regularise, Source, Train
from training.systems import build_system


def recipe(**train: float) -> Recipe:
    return Recipe(
        name="tiny",
        system="tinysafe",
        base="tiny",
        data=Data(
            max_tokens=40,
            validation=0.2,
            calibration=0.1,
            sources=[Source(name="toxicchat", share=1, sets=["jailjudge_id"])],
        ),
        train=Train(**{"draws": 256, "batch_size": 16, "learning_rate": 1e-3, "validate_every": 64, **train}),
        regularise=Regularise(fgm_epsilon=0.1, ema_decay=0.9, dropout=0.2, dropout_samples=2, hidden_dropout=0.1),
    )


def adapters() -> Recipe:
    """The same with a frozen backbone."""
    lora = Lora(r=4, alpha=8, targets=["query", "value"])
    return recipe().model_copy(update={"system": "hazard", "lora": lora})


class Stopped(Exception):
    """The machine went away."""


@pytest.fixture
def trainer(tmp_path: Path):
    write_set(tmp_path / "data", "jailjudge_id", {0: ["SNA"], 1: ["S2"]})
    base = word_piece_backbone(tmp_path / "base")

    def make(out: str, a_recipe: Recipe = recipe()) -> Trainer:  # noqa: B008
        torch.manual_seed(1)
        system = build_system(a_recipe, base)
        splits = build_splits(tmp_path / "data", a_recipe.data, a_recipe.system)
        return Trainer(a_recipe, system.network, system.tokenizer, system.pad_id, splits, tmp_path / out)

    return make


def stop_after(trainer: Trainer, steps: int) -> None:
    usual = trainer._step

    def step(batches):
        if trainer.step == steps:
            raise Stopped
        return usual(batches)

    trainer._step = step


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 16), (2, 8)])
def test_resuming_is_exact(trainer, monkeypatch: pytest.MonkeyPatch, accumulate: int, steps: int) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    whole = trainer("whole", recipe(accumulate=accumulate))
    whole.run()
    stopped = trainer("stopped", recipe(accumulate=accumulate))
    stop_after(stopped, 5)
    with pytest.raises(Stopped):
        stopped.run()
    resumed = trainer("stopped", recipe(accumulate=accumulate))
    resumed.run(resume=True)
    assert resumed.step == whole.step == steps
    assert resumed.best == whole.best
    for name, value in whole.best_state.items():
        assert torch.equal(value, resumed.best_state[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    trainer("out").run()
    with pytest.raises(DataError, match="another recipe"):
        trainer("out", recipe(learning_rate=2e-3)).run(resume=True)


@pytest.mark.parametrize("recipe_", [recipe(), adapters()], ids=["whole", "adapters"])
def test_a_checkpoint_of_another_base_or_other_data_is_refused(
    trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe_: Recipe
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    stopped = trainer("out", recipe_)
    stop_after(stopped, 2)
    with pytest.raises(Stopped):
        stopped.run()
    trainer("out", recipe_)._load()
    weights = load_file(tmp_path / "base" / "model.safetensors")
    if recipe_.lora:  # the same shapes, but other numbers
        changed = {name: value + 0.01 for name, value in weights.items()}
        save_file(changed, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(DataError, match="on another base or other data"):
            trainer("out", recipe_).run(resume=True)
        save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    rows = (tmp_path / "data" / "jailjudge_id.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "data" / "jailjudge_id.jsonl").write_text("".join(rows[:-20]))
    with pytest.raises(DataError, match="on another base or other data"):
        trainer("out", recipe_).run(resume=True)


def test_a_checkpoint_that_was_cut_off_is_named(trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    stopped = trainer("out")
    stop_after(stopped, 2)
    with pytest.raises(Stopped):
        stopped.run()
    cut_off(tmp_path / "out" / "checkpoint.pt")
    with pytest.raises(DataError, match=r"checkpoint\.pt: not a checkpoint, or cut off"):
        trainer("out").run(resume=True)


def test_training_stops_when_it_no_longer_gains(trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "summarise", lambda predictions: {"score": 0.5})
    early = trainer("early", recipe(patience=2))
    early.run()
    assert early.step == 12  # the first validation is a gain, the next two are none
