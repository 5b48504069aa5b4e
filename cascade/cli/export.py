"""``cascade export``: packages a finished training run again, for instance on a machine with another CPU."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.extras import needs_extra


class Precision(StrEnum):
    """What the network of a model folder computes in."""

    int8 = "int8"
    float32 = "float32"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(help="The --out folder of a finished `cascade train`.")],
    data: Annotated[Path, typer.Option(help="The data that it was trained on: its calibration split is used.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    base: Annotated[str | None, typer.Option(help="Backbone: a folder or a known name. Default: the recipe's.")] = None,
    precision: Annotated[
        Precision, typer.Option(help="float32 is some four times as large and slower: a model folder of its own.")
    ] = Precision.int8,
) -> None:
    """Export a trained network to ONNX, calibrate it on this machine and write its manifest.

    Needs the extra "train".
    """
    with needs_extra("train"):
        from training.run import export as package_again
    manifest = package_again(run, data, out, base, precision.value)
    print(f"{out}: {manifest.name}@{manifest.revision}")
