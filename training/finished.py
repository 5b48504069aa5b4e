"""A finished run's folder: its recipe and its best weights, read back."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.errors import ModelError
from stages.manifest import first_problem
from training.data.rows import DataError
from training.recipe import Recipe

BEST, RECIPE = "best.safetensors", "recipe.json"


def recipe_of(run: Path) -> Recipe:
    """The recipe of a finished run.

    Raises:
        DataError: it is none, or its recipe is damaged.
    """
    _require_finished(run)
    try:
        return Recipe.model_validate_json((run / RECIPE).read_bytes())
    except ValidationError as error:
        raise DataError(f"{run / RECIPE}: {first_problem(error)}") from error


def best_weights(run: Path) -> dict[str, Tensor]:
    """The weights of a finished run that were the best in validation.

    Raises:
        DataError: it is none.
        ModelError: the file is damaged.
    """
    _require_finished(run)
    try:
        return load_file(run / BEST)
    except SafetensorError as error:
        raise ModelError(f"{run / BEST}: not a safetensors file, or cut off ({error})") from error


def load_best(network: nn.Module, run: Path) -> None:
    """Loads a finished run's best weights into its network.

    Raises:
        DataError: it is no finished run.
        ModelError: they are damaged, or another network's.
    """
    weights, there = best_weights(run), network.state_dict()
    for name, value in weights.items():
        if name not in there:
            raise ModelError(f"{run}: weights for another network, for instance {name}")
        if value.shape != there[name].shape:
            shapes = f"{list(value.shape)}, here {list(there[name].shape)}"
            raise ModelError(f"{run}: weights for another network: {name} is {shapes}")
    network.load_state_dict(weights, strict=False)  # what was not trained is the base's


def _require_finished(run: Path) -> None:
    if not (run / BEST).is_file() or not (run / RECIPE).is_file():
        raise DataError(f"{run}: no finished run, it has no {BEST} and {RECIPE}")
