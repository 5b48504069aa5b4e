"""``cascade scan``: judges every row of a file and writes a file of the same rows with their results."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.options import (
    HAZARD,
    TINYSAFE,
    AllowScoreDrift,
    PolicyFile,
    Stage1,
    Stage2,
    Threads,
    open_pipeline,
    specs,
)

if TYPE_CHECKING:
    from cascade.scan.records import Record
    from cascade.scan.run import Scanned

BAD_ROWS = 3


class Engine(StrEnum):
    """What scans."""

    LOCAL = "local"
    RAY = "ray"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(scan)


def scan(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A .jsonl, .jsonl.gz, .csv or .parquet file. Engine ray: also a folder of them, here or in a store: "
            "s3://BUCKET/FOLDER; no .csv.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="File to write, of the same format; it appears when it is complete. Engine ray: a folder of parts, "
            "here or in a store; it is complete when it has the file _SUCCESS."
        ),
    ],
    text_field: Annotated[str, typer.Option(help="Key or column of the text.")] = "text",
    response_field: Annotated[
        str, typer.Option(help="Key or column of the answer that the text got; such rows are judged as exchanges.")
    ] = "response",
    id_field: Annotated[
        str, typer.Option(help="Key or column of the id; a row without one gets its number, from 1.")
    ] = "id",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 3 if a row was bad.")] = False,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Rows that are judged at the same time; it changes no result.")
    ] = 64,
    engine: Annotated[
        Engine,
        typer.Option(
            help="local: in this process. ray: on the cluster that RAY_ADDRESS names, else on one started here."
        ),
    ] = Engine.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes of engine ray that judge. Default: as many as the cluster has CPUs for.",
            show_default=False,
        ),
    ] = None,
    part_kb: Annotated[
        int, typer.Option(min=1, help="Engine ray: input that becomes one part, and is lost with a worker, in kB.")
    ] = 4096,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
) -> None:
    """Judge every row of IN and write the rows to OUT with a `result`, the JSON of the answer.

    In JSON lines it is an object, in CSV and Parquet a column of JSON text. A row that cannot be judged has the result
    null and an `error` with code and message. Fields of these names that IN already has are replaced.

    What is done is kept in OUT.part: the same command after a stop goes on from there. Exit code 0 when OUT is
    complete, 3 if rows were bad and --strict is set, 2 for wrong usage, 1 for anything else.
    """
    from cascade.build import build_pipeline
    from cascade.scan.records import Fields, ScanError, ScanUsageError

    fields = Fields(text_field, response_field, id_field)
    models = stage1, stage2, policy, threads, allow_score_drift

    async def run() -> Scanned:
        from cascade.scan.run import open_job

        job = open_job(_file(source), Path(out), fields)
        async with open_pipeline(*models) as pipeline:
            with _progress() as told:

                def on_record(record: Record, size: int) -> None:
                    told(record.position, size, record.number)

                return await job.run(pipeline, in_flight=in_flight, on_record=on_record)

    async def run_on_ray() -> Scanned:
        from cascade.scan.ray_engine import open_ray_job

        job = open_ray_job(source, out, fields, part_bytes=1000 * part_kb, workers=workers, threads=threads)
        make = partial(build_pipeline, **specs(stage1, stage2, policy, job.threads, allow_score_drift))
        async with open_pipeline(*models) as pipeline:
            with _progress() as told:
                return job.run(make, pipeline, in_flight=in_flight, on_part=told)

    try:
        scanned = asyncio.run(run() if engine is Engine.LOCAL else run_on_ray())
    except ScanUsageError as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        raise ScanError(f"{error.filename or out}: {error.strerror}") from error
    place = out.partition("?")[0] if "://" in out else out
    print(f"{place}: {scanned.rows} rows, {scanned.bad} of them bad, {scanned.resumed} taken over", file=sys.stderr)
    if scanned.bad and strict:
        raise typer.Exit(BAD_ROWS)


def _file(name: str) -> Path:
    """The input of the local engine.

    Raises:
        BadParameter: it is no file.
    """
    path = Path(name)
    if not path.is_file():
        hint = "; a folder, or a URI, is for --engine ray" if path.is_dir() or "://" in name else ""
        raise typer.BadParameter(f"{name}: no such file{hint}")
    return path


@contextmanager
def _progress() -> Iterator[Callable[[int, int, int], None]]:
    """A bar on stderr; yields what is told how much of the whole is done, the whole, and the rows that are done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    rows = TextColumn("{task.fields[rows]} rows")
    columns = (BarColumn(), TaskProgressColumn(), rows, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("scan", rows=0, total=None)
        yield lambda done, size, rows: bar.update(task, completed=done, total=size, rows=rows)
