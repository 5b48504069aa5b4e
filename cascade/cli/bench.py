"""``cascade bench``: measures what no score of a labelled set tells; ``evasion``, how easily the cascade is fooled."""

from __future__ import annotations

import asyncio
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli import benches
from cascade.cli.options import HAZARD, TINYSAFE, AllowScoreDrift, PolicyFile, Stage1, Threads, open_pipeline

commands = typer.Typer(no_args_is_help=True, help="Measure what no score of a labelled set tells.")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.add_typer(commands, name="bench")


commands.command()(benches.length)
commands.command()(benches.conversations)
commands.command()(benches.streams)


@commands.callback()
def bench() -> None:
    """Measure what no score of a labelled set tells."""


@commands.command()
def evasion(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Labelled texts, unsafe and harmless, *.jsonl or *.jsonl.gz, with the keys text and unsafe (1 or 0).",
        ),
    ],
    limit: Annotated[int, typer.Option(min=1, help="Rows of each kind that are used, from the first on.")] = 200,
    disguise: Annotated[
        list[str] | None,
        typer.Option(help="Only this disguise, by its name in the table; may be given again.", show_default=False),
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Texts that the black-box search may try for each row.")] = 60,
    searched: Annotated[int, typer.Option(min=0, help="Rows that the black-box search attacks.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the transformations, the search and the bootstrap.")] = 0,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Rows that are judged at the same time; it changes no figure.")
    ] = 16,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write the report to this JSON file.", show_default=False)
    ] = None,
    stage1: Stage1 = TINYSAFE,
    stage2: Annotated[str, typer.Option(help="Model of stage 2: an embedded name or a model folder.")] = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")] = False,
) -> None:
    """Disguise unsafe texts in fifteen ways, and by a search, and report what is lost before stage 2 sees it.

    The figure is the cascade-induced loss: of the texts that stage 2 alone would have caught, the share that stage 1
    did not send on. Beside it stands the share of harmless texts that is escalated.
    """
    from rich.console import Console
    from rich.progress import Progress

    from cascade.bench.evasion import chosen, measure, read_sample, steps
    from cascade.errors import CascadeError

    unsafe, harmless = read_sample(file, limit)
    disguises = chosen(disguise or [])

    async def run() -> dict[str, Any]:
        async with open_pipeline(stage1, stage2, policy, threads, allow_score_drift) as pipeline:
            with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
                task = bar.add_task("texts", total=steps(unsafe, harmless, searched, len(disguises)))
                return await measure(
                    file,
                    unsafe,
                    harmless,
                    pipeline,
                    disguises=disguises,
                    queries=queries,
                    searched=searched,
                    seed=seed,
                    in_flight=in_flight,
                    on_row=lambda: bar.advance(task),
                )

    report = asyncio.run(run())
    if out:
        try:
            out.write_text(dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise CascadeError(f"{out}: {error.strerror}") from error
    if json:
        print(dumps(report))
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("disguise", "caught by stage 2", "lost", "loss", "recall", "harmless escalated", title="evasion")
    for row in report["transformations"]:
        table.add_row(
            row["name"],
            str(row["caught_by_stage2"]),
            str(row["lost"]),
            _loss(row),
            f"{row['recall']:.3f}",
            f"{row['harmless_escalated']:.3f}",
        )
    found = report["all_transformations"]
    table.add_row("all disguises", str(found["caught_by_stage2"]), str(found["lost"]), _loss(found), "", "")
    found = report["search"]
    table.add_row(
        f"search, {found['queries']} queries", str(found["caught_by_stage2"]), str(found["lost"]), _loss(found), "", ""
    )
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(
        f"Of the harmless texts {report['harmless_escalated']:.3f} are escalated as they stand, "
        f"{report['harmless_escalated_by_triggers_alone']:.3f} by triggers alone."
    )


def _loss(row: dict[str, Any]) -> str:
    loss = row["loss"]
    return "-" if loss["value"] is None else f"{loss['value']:.3f} [{loss['low']:.3f}, {loss['high']:.3f}]"
