"""Averages the weights of several runs from one backbone: a "model soup", a run folder for ``cascade export``.

``python -m training.soup OUT RUN:WEIGHT RUN:WEIGHT ...``: the last run's recipe becomes the soup's, so its data are
what the soup is calibrated on. Runs that started from the same weights mostly lie in one basin, and their mean keeps
what each of them is good at (Wortsman et al. 2022, arXiv:2203.05482). Whether it does, held-out rows must say.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from stages.errors import ModelError
from training.data.rows import DataError
from training.finished import BEST, RECIPE, best_weights, recipe_of
from training.loop import ORIGIN

MEAN = "the mean of runs: "


def soup(runs: Sequence[tuple[Path, float]], out: Path) -> None:
    """Writes the weighted mean of runs' best weights to ``out``; the weights are scaled to sum to 1.

    Raises:
        DataError: a folder is no finished run, the weights have no positive sum, or the soup's recipe leaves out what
            is not under a permissive licence and another run's does not.
        ModelError: a run's file is damaged, or the runs are of different networks.
    """
    total = sum(weight for _, weight in runs)
    if len(runs) < 2 or total <= 0:
        raise DataError("a soup takes two or more runs, with weights of a positive sum")
    recipes = {run: recipe_of(run) for run, _ in runs}
    if recipes[runs[-1][0]].data.licences == "permissive":
        for run, recipe in recipes.items():
            if recipe.data.licences != "permissive":
                raise DataError(f"{run} was trained on sets that are not permissive, the soup is to be without them")
    mean: dict[str, Tensor] = {}
    for run, weight in runs:
        state = best_weights(run)
        shapes = {name: value.shape for name, value in state.items()}
        if mean and shapes != {name: value.shape for name, value in mean.items()}:
            raise ModelError(f"{run}: another network than {runs[0][0]}'s")
        for name, value in state.items():
            part = value if not value.is_floating_point() else value * (weight / total)
            mean[name] = mean[name] + part if name in mean and value.is_floating_point() else part
    out.mkdir(parents=True, exist_ok=True)
    save_file(mean, out / BEST)
    (out / RECIPE).write_bytes((runs[-1][0] / RECIPE).read_bytes())
    parts = [f"{weight / total:.2g} of {recipes[run].name}" for run, weight in runs]
    (out / ORIGIN).write_text(f"{MEAN}{', '.join(parts)}", encoding="utf-8")


def main() -> None:
    """The command."""
    import sys

    if len(sys.argv) < 4 or any(":" not in argument for argument in sys.argv[2:]):
        sys.exit("usage: python -m training.soup OUT RUN:WEIGHT RUN:WEIGHT ...")
    pairs = (argument.rpartition(":") for argument in sys.argv[2:])
    soup([(Path(run), float(weight)) for run, _, weight in pairs], Path(sys.argv[1]))


if __name__ == "__main__":
    main()
