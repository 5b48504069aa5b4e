"""``cascade train``: from a recipe and a folder of data to a model folder that ``cascade serve`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.extras import needs_extra


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(train)


def train(
    recipe: Annotated[str, typer.Argument(help="An included recipe (tinysafe, hazard) or a .toml file.")],
    data: Annotated[Path, typer.Option(help="Folder with the sets that the recipe names, in the uniform form.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log, card and the finished model.")],
    base: Annotated[
        str | None,
        typer.Option(help="Backbone: a folder or a name of `cascade models fetch`. Default: the recipe's."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
) -> None:
    """Train a stage, export it to int8, calibrate it and write its manifest and card.

    Needs the extra "train". A run that was stopped goes on with --resume on the same draws.
    """
    with needs_extra("train"):
        from training.recipe import load_recipe
        from training.run import run
    manifest = run(load_recipe(recipe), data, out, base, resume=resume)
    print(f"{out / 'model'}: {manifest.name}@{manifest.revision}")
