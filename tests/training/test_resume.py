"""A run that was stopped and taken up again ends with the weights of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.backbones import word_piece_backbone, write_set
from training import loop
from training.data.mix import build_splits
from training.data.rows import DataError
from training.loop import Trainer
from training.recipe import Data, Recipe, Regularise, Source, Train
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


def test_training_stops_when_it_no_longer_gains(trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "summarise", lambda predictions: {"score": 0.5})
    early = trainer("early", recipe(patience=2))
    early.run()
    assert early.step == 12  # the first validation is a gain, the next two are none
