"""``cascade export``: packages a finished training run again, for instance on a machine with another CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.extras import needs_extra


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(export)


def export(
    run: Annotated[Path, typer.Argument(help="The --out folder of a finished `cascade train`.")],
    data: Annotated[Path, typer.Option(help="The data that it was trained on: its calibration split is used.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    base: Annotated[str | None, typer.Option(help="Backbone: a folder or a known name. Default: the recipe's.")] = None,
) -> None:
    """Export a trained network to ONNX and int8, calibrate it on this machine and write its manifest.

    Needs the extra "train".
    """
    with needs_extra("train"):
        from training.run import export as package_again
    manifest = package_again(run, data, out, base)
    print(f"{out}: {manifest.name}@{manifest.revision}")
