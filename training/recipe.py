"""A recipe: everything that decides how a model is trained, read from a TOML file that reads like a model card."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.data.rows import DataError

RECIPES = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Sets that are drawn from together."""

    name: str
    share: float = Field(gt=0)  # of all draws, relative to the other sources
    sets: list[str]
    unsafe_share: float | None = None  # of this source's draws; None leaves it as it falls
    binary: bool = True  # False: the rows teach labels only
    only_labels: list[str] = []  # use only rows with one of these labels; empty means all


class Data(_Section):
    """What is trained on."""

    max_tokens: int = 256
    validation: float = 0.08
    calibration: float = 0.10
    validation_cap: int = 400  # rows of a source that are validated on
    calibration_cap: int = 1500  # rows of a source that are calibrated on
    licences: Literal["all", "permissive"] = "all"
    sources: list[Source]


class Train(_Section):
    """How long and how fast."""

    draws: int  # texts seen in all, with repetition
    batch_size: int = 32
    learning_rate: float
    head_learning_rate: float | None = None  # None: the same
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    validate_every: int = 8000  # draws
    patience: int = 3  # validations without a gain before it stops
    seed: int = 42


class Loss(_Section):
    """Weights and shapes of the losses."""

    focal_gamma: float = 2.0
    label_smoothing: float = 0.1
    label_weight: float = 0.7
    gamma_positive: float = 1.0
    gamma_negative: float = 4.0
    clip: float = 0.05
    class_balance_beta: float = 0.9999


class Regularise(_Section):
    """What keeps it from learning by heart."""

    fgm_epsilon: float = 0.0
    fgm_every: int = 1  # steps
    ema_decay: float = 0.0
    dropout: float = 0.1  # before the heads
    dropout_samples: int = 1
    hidden_dropout: float = 0.1  # inside the backbone
    attention_dropout: float = 0.0  # on attention weights; doubles the time of a step on a CPU


class Lora(_Section):
    """Low-rank adaptation (Hu et al. 2021)."""

    r: int = 32
    alpha: int = 64
    dropout: float = 0.1
    targets: list[str]


class Recipe(_Section):
    """All of it."""

    name: str
    system: Literal["tinysafe", "hazard"]
    base: str
    data: Data
    train: Train
    loss: Loss = Loss()
    regularise: Regularise = Regularise()
    lora: Lora | None = None


def load_recipe(name: str | Path) -> Recipe:
    """Reads a recipe by the name of an included one (``tinysafe``) or by path.

    Raises:
        DataError: no such recipe, or it is not valid; the message names the key.
    """
    path = Path(name) if str(name).endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        included = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise DataError(f"no recipe {name}: give a .toml file or one of {included}")
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise DataError(f"{path}: {error}") from error
