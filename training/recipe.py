"""A recipe: everything that decides how a model is trained, read from a TOML file that reads like a model card."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from stages.manifest import first_problem
from training.data.rows import DataError

RECIPES = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Sets that are drawn from together."""

    name: str
    share: float = Field(default=1.0, gt=0)  # of all draws, relative to the other sources; see Data.sampling
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
    verdicts: bool = True  # what training/verdicts says of a row goes before its set's own label
    # How draws fall: "shares": a source by its share. "weights": a row by its source's share, as a weighted sampler
    # does. "rows": every row once an epoch. "classes": a label by chance, then one of its rows.
    sampling: Literal["shares", "weights", "rows", "classes"] = "shares"
    max_rows: int | None = Field(default=None, gt=0)  # trained on at most; a smaller analogue of the full recipe
    sources: list[Source]


class Train(_Section):
    """How long and how fast."""

    draws: int | None = None  # texts seen in all, with repetition; or
    epochs: float | None = None  # as many draws as there are rows to train on, so many times
    batch_size: int = 32  # texts in one forward pass of one process
    accumulate: int = Field(default=1, ge=1)  # forward passes before a step
    learning_rate: float
    head_learning_rate: float | None = None  # None: the same
    schedule: Literal["linear", "cosine", "onecycle"] = "linear"
    warmup: float = 0.06  # share of all steps
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    validate_every: int | None = None  # draws; None: once an epoch
    select: tuple[str, ...] = ("score",)  # validation figures that choose the best weights; the next breaks a tie
    patience: int = 3  # validations without a gain before it stops
    precision: Literal["bf16", "fp32"] = "bf16"  # of products; weights are kept in float32
    seed: int = 42

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.draws is None) == (self.epochs is None):
            raise ValueError("give either draws or epochs")
        return self


class Loss(_Section):
    """Which losses, their weights and shapes; see :mod:`training.losses`."""

    binary: Literal["focal", "cross_entropy", "none"] = "focal"
    labels: Literal["asymmetric", "bce", "multilabel", "softmax", "none"] = "asymmetric"
    binary_weight: float = 1.0
    focal_gamma: float = 2.0
    label_smoothing: float = 0.1
    label_weight: float = 0.7
    gamma_positive: float = 1.0
    gamma_negative: float = 4.0
    clip: float = 0.05
    class_balance_beta: float = 0.9999

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if self.binary == self.labels == "none":
            raise ValueError("binary and labels are both none: there is nothing to learn")
        return self


class Distil(_Section):
    """What is learned from teachers, beside the labels; see :mod:`training.teachers`."""

    teachers: dict[str, PositiveFloat] = Field(min_length=1)  # a model, and its weight in the mean of their logits
    weight: float = Field(default=1.0, gt=0)  # of the cross-entropy against their probability
    sources: list[str] = []  # whose texts they judge; empty means all


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

    # "adapter": the base stays frozen. "all": every weight is tuned, and the network then taken apart into a 4-bit base
    # and an adapter of this rank (training.loftq).
    tune: Literal["adapter", "all"] = "adapter"
    r: int = 32
    alpha: int = 64
    dropout: float = 0.1
    targets: list[str]
    # One mask for all tokens of a text: faster on a CPU (training.regularisers.TextDropout). False: PEFT's own.
    text_dropout: bool = True


class Recipe(_Section):
    """All of it."""

    name: str
    system: Literal["tinysafe", "hazard", "legacy9", "duoguard", "constitutional", "judge"]
    base: str  # a name of `cascade models fetch`, a hub id or a folder; --base names another
    pooling: Literal["first", "mean"] = "mean"  # TinySafe only: the others pool as their system does
    published: Literal["v1", "v2"] | None = None  # TinySafe only: also save the layout that this version has
    data: Data
    train: Train
    loss: Loss = Loss()
    distil: Distil | None = None
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
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: {error}") from error


def overridden(
    recipe: Recipe,
    *,
    epochs: float | None = None,
    max_rows: int | None = None,
    accumulate: int | None = None,
    licences: str | None = None,
) -> Recipe:
    """A recipe with some of its settings replaced: a smaller analogue, a smaller machine, other terms."""
    train = recipe.train.model_dump()
    if epochs is not None:
        train |= {"epochs": epochs, "draws": None, "validate_every": None}
    if accumulate is not None:
        train |= {"accumulate": accumulate}
    given = {"max_rows": max_rows, "licences": licences}
    data = recipe.data.model_dump() | {key: value for key, value in given.items() if value is not None}
    try:
        return Recipe.model_validate(recipe.model_dump() | {"train": train, "data": data})
    except ValidationError as error:
        raise DataError(f"{recipe.name}: {first_problem(error)}") from error
