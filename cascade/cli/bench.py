"""``cascade bench``: measures what no score of a labelled set tells; ``evasion``, how easily the cascade is fooled."""

from __future__ import annotations

from collections.abc import Callable
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli import benches, load
from cascade.cli.options import HAZARD, TINYSAFE, AllowScoreDrift, Json, PolicyFile, Stage1, Stage2, Threads

if TYPE_CHECKING:
    from cascade.pipeline import Pipeline

commands = typer.Typer(no_args_is_help=True, help="Measure what no score of a labelled set tells.")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.add_typer(commands, name="bench")


commands.command()(benches.length)
commands.command()(benches.conversations)
commands.command()(benches.exchanges)
commands.command()(benches.streams)
commands.command()(benches.certificates)
commands.command()(load.serve)
commands.command()(load.peers)
commands.command()(load.mix)


@commands.callback()
def bench() -> None:
    """Measure what no score of a labelled set tells."""


@commands.command()
def evasion(
    file: benches.LabelledFile,
    limit: Annotated[int, typer.Option(min=1, help="Rows of each kind that are used, drawn at random.")] = 200,
    disguise: Annotated[
        list[str] | None,
        typer.Option(help="Only this disguise, by its name in the table; may be given again.", show_default=False),
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Texts that the black-box search may try for each row.")] = 60,
    searched: Annotated[int, typer.Option(min=0, help="Rows that the black-box search attacks.")] = 50,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the rows, of what is done to them, and of the bootstrap.")
    ] = 0,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Rows that are judged at the same time; it changes no figure.")
    ] = 16,
    out: benches.Out = None,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Disguise unsafe texts in fifteen ways, and by a search, and report what is lost before stage 2 sees it.

    The figure is the cascade-induced loss: of the texts that stage 2 alone would have caught, by its score or by a
    hazard that blocks, the share that stage 1 did not send on. Beside it stands the share of harmless texts that is
    escalated.
    """
    from cascade.bench.evasion import chosen, measure, steps
    from cascade.bench.sample import read_sample

    unsafe, harmless = read_sample(file, limit, seed)
    disguises = chosen(disguise or [])

    async def under_way(pipeline: Pipeline, tick: Callable[[], None]) -> dict[str, Any]:
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
            on_row=tick,
        )

    count = steps(unsafe, harmless, searched, len(disguises))
    report = benches.run_bench(under_way, count, stage1, stage2, policy, threads, allow_score_drift, out)
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
