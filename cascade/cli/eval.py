"""``cascade eval``: measures both stages and the cascade on a folder of labelled sets."""

from __future__ import annotations

import asyncio
import shlex
import sys
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.options import HAZARD, TINYSAFE, AllowScoreDrift, PolicyFile, Stage1, Threads, open_pipeline
from cascade.cli.progress import rows_bar


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("eval")(evaluate_folder)


def evaluate_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Folder of sets, *.jsonl or *.jsonl.gz, with the keys id, text, response (optional), unsafe, labels.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for report.json, report.md and report.html; made if need be.")
    ] = Path("report"),
    training: Annotated[
        list[Path] | None,
        typer.Option(
            help="Training set, or folder of them, to compare every row with; may be given again. Rows that are near "
            "one of theirs are counted, and each set is reported without them too.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    cpu_hour_price: Annotated[
        float | None,
        typer.Option(min=0, help="Price of an hour of one CPU: what 1,000 texts cost.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read only the first so many rows of each set.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Rows that are judged at the same time; it changes no figure.")
    ] = 16,
    stage1: Stage1 = TINYSAFE,
    stage2: Annotated[str, typer.Option(help="Model of stage 2: an embedded name or a model folder.")] = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")] = False,
) -> None:
    """Measure stage 1, stage 2 and the cascade on labelled sets; print the report and write it to a folder.

    For each set and cohort: precision, recall, F1, false-positive rate, AUROC, AUPRC, AURC, recall at 1 % FPR and FPR
    at 95 % recall with bootstrap intervals; what escalating 10, 20 and 30 % buys and costs; what others published of
    the same rows. For each set: slices by language, script and length; F1 of each hazard where it carries AILuminate's
    labels, of each of TinySafe's categories where its rows have the key `categories`. Only the verdict UNSAFE counts as
    positive; the strict reading, CONTROVERSIAL too, stands beside it. `cascade compare` joins reports.
    """
    from cascade.evaluate.contamination import clean, compare, training_files
    from cascade.evaluate.render import html, markdown
    from cascade.evaluate.rows import DataError, read_folder
    from cascade.evaluate.run import evaluate

    sets = read_folder(folder, limit=limit)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: {error.strerror}") from error

    found = compare(sets, training_files(training)) if training else None
    if found is not None:
        sets = clean(sets, found)

    async def run() -> dict[str, Any]:
        async with open_pipeline(stage1, stage2, policy, threads, allow_score_drift) as pipeline:
            with rows_bar(sum(len(labelled.rows) for labelled in sets)) as on_row:
                return await evaluate(
                    sets,
                    pipeline,
                    command=shlex.join(["cascade", *sys.argv[1:]]),
                    limit=limit,
                    seed=seed,
                    in_flight=in_flight,
                    contamination=found,
                    cpu_hour_price=cpu_hour_price,
                    on_row=on_row,
                )

    report = asyncio.run(run())
    (out / "report.json").write_text(dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    (out / "report.html").write_text(html(report), encoding="utf-8")
    if json:
        print(dumps(report))
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cascade.evaluate.tables import tables

    console = Console(highlight=False, markup=False)
    for found in tables(report):
        table = Table(*found.columns, title=f"\n{found.title}\n{found.note}", title_justify="left", show_lines=True)
        for row in found.rows:
            table.add_row(*map(_narrow, row))
        console.print(table)


def _narrow(cell: str) -> str:
    """A cell over several lines, an interval below its figure, so that a table fits into 80 columns."""
    for wide, narrow in ((" [", "\n"), ("]", ""), (" at ", "\nat "), (" % ", " %\n")):
        cell = cell.replace(wide, narrow)
    return cell
