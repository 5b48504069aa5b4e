"""``cascade scan``: judges every row of a file and writes a file of the same rows with their results."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.options import HAZARD, TINYSAFE, AllowScoreDrift, PolicyFile, Stage1, Stage2, Threads, open_pipeline

if TYPE_CHECKING:
    from cascade.scan.records import Record
    from cascade.scan.run import Scanned

BAD_ROWS = 3


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(scan)


def scan(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", exists=True, dir_okay=False, help="A .jsonl, .jsonl.gz, .csv or .parquet file."),
    ],
    out: Annotated[Path, typer.Option(help="File to write, of the same format; it appears when it is complete.")],
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
    from cascade.scan.records import Fields, ScanError, ScanUsageError
    from cascade.scan.run import open_job

    async def run() -> Scanned:
        async with open_pipeline(stage1, stage2, policy, threads, allow_score_drift) as pipeline:
            with _progress() as on_record:
                return await job.run(pipeline, in_flight=in_flight, on_record=on_record)

    try:
        job = open_job(source, out, Fields(text_field, response_field, id_field))
        scanned = asyncio.run(run())
    except ScanUsageError as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        raise ScanError(f"{error.filename or out}: {error.strerror}") from error
    print(f"{out}: {scanned.rows} rows, {scanned.bad} of them bad, {scanned.resumed} taken over", file=sys.stderr)
    if scanned.bad and strict:
        raise typer.Exit(BAD_ROWS)


@contextmanager
def _progress() -> Iterator[Callable[[Record, int], None]]:
    """A bar on stderr; yields what is told each record and the size of the whole."""
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
        yield lambda record, size: bar.update(task, completed=record.position, total=size, rows=record.number)
