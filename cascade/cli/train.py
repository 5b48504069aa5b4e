"""``cascade train``: from a recipe and a folder of data to a model folder that ``cascade serve`` takes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.extras import needs_extra
from cascade.cli.options import named


class Licences(StrEnum):
    """Which sets may be trained on."""

    all = "all"
    permissive = "permissive"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(train)


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="An included recipe (tinysafe, tinysafe-v1, tinysafe-v2, hazard, hazard-legacy9, constitutional, "
            "duoguard, judge) or a .toml file."
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder with the sets that the recipe names, in the uniform form.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log, card and the finished model.")],
    base: Annotated[
        str | None,
        typer.Option(help="Backbone: a folder, a name of `cascade models fetch` or a hub id. Default: the recipe's."),
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option(min=1, help="Train on at most so many rows. Default: the recipe's.")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0.0, help="Draw as many texts as there are rows, so many times.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Batches before a step: a larger batch in the same memory.")
    ] = None,
    licences: Annotated[
        Licences | None,
        typer.Option(
            help="permissive leaves out every set whose licence is not, and prints them. Default: the recipe's.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="A finished run, or a soup of some, whose weights to start from. Default: the bare backbone."
        ),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="The model that a teacher of the recipe is, as `cascade serve --stage2` takes it. May be repeated. "
            "Default: the model of its name.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
) -> None:
    """Train a stage, export it to int8, calibrate it and write its manifest and card.

    Needs the extra "train". A run that was stopped goes on with --resume on the same draws. On several GPUs:
    accelerate launch -m cascade.cli train RECIPE ...
    """
    with needs_extra("train"):
        from training.recipe import load_recipe, overridden
        from training.run import run
    chosen = overridden(
        load_recipe(recipe),
        epochs=epochs,
        max_rows=max_rows,
        accumulate=accumulate,
        licences=licences.value if licences else None,
    )
    teachers = dict(named(text, "MODEL", "--teacher") for text in teacher or [])
    manifest = run(chosen, data, out, base, resume=resume, start=start, teachers=teachers)
    if manifest is not None:  # the first of several processes
        print(f"{out / 'model'}: {manifest.name}@{manifest.revision}")
