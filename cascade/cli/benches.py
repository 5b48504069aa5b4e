"""``cascade bench length``, ``conversations``, ``exchanges``, ``streams``: what shapes of text do, on labelled rows.

``cascade bench certificates``: what becomes of promises, on their scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.options import HAZARD, TINYSAFE, AllowScoreDrift, Json, PolicyFile, Stage1, Stage2, Threads
from cascade.cli.promises import Delta, MaxEscalation, MaxFalsePositive, MaxMissedUnsafe, Router, base_policy, wishes_of

if TYPE_CHECKING:
    from cascade.pipeline import Pipeline

LabelledFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Labelled texts, unsafe and harmless, *.jsonl or *.jsonl.gz, with the keys text and unsafe (1 or 0).",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the rows, of what is made of them, and of the bootstrap.")]
Out = Annotated[
    Path | None, typer.Option(dir_okay=False, help="Also write the report to this JSON file.", show_default=False)
]


def length(
    file: LabelledFile,
    documents: Annotated[int, typer.Option(min=1, help="Documents of each length, and as many with a payload.")] = 100,
    words: Annotated[list[int] | None, typer.Option(min=1, help="Lengths. Default: 50, 500, 5000.")] = None,
    seed: Seed = 0,
    out: Out = None,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Make long documents of harmless rows and report how many are flagged, by length, which should make no difference.

    Beside it stands how many of the same documents are caught when one unsafe row stands somewhere inside.
    """
    from cascade.bench import lengths
    from cascade.bench.sample import read_sample

    unsafe, harmless = read_sample(file)
    asked = words or lengths.LENGTHS

    async def measure(pipeline: Pipeline, tick: Callable[[], None]) -> list[dict[str, Any]]:
        return await lengths.measure(
            unsafe, harmless, pipeline, documents=documents, lengths=asked, seed=seed, on_row=tick
        )

    report = run_bench(
        measure, lengths.steps(documents, asked), stage1, stage2, policy, threads, allow_score_drift, out
    )
    columns = ("false_positives", "controversial", "stage1_alone", "stage2_alone", "escalated", "caught_inside")
    rows = [[str(row["words"]), *(_share(row[column]) for column in columns)] for row in report]
    _show(report, json, "length", ("words", *(column.replace("_", " ") for column in columns)), rows)


def conversations(
    file: LabelledFile,
    limit: Annotated[int, typer.Option(min=1, help="Rows of each kind that are used.")] = 200,
    seed: Seed = 0,
    out: Out = None,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Split unsafe texts over turns and report how many are still seen, and what an unsafe turn does to the next one.

    "At once" is one check of the whole conversation, "on arrival" one check for each turn that the user sends.
    """
    from cascade.bench import conversations as bench
    from cascade.bench.sample import read_sample

    unsafe, harmless = (bench.usable(rows, limit, seed) for rows in read_sample(file))

    async def measure(pipeline: Pipeline, tick: Callable[[], None]) -> dict[str, Any]:
        return await bench.measure(unsafe, harmless, pipeline, seed=seed, on_row=tick)

    report = run_bench(measure, bench.steps(unsafe, harmless), stage1, stage2, policy, threads, allow_score_drift, out)
    attack, calm = report["split"], report["harmless_after_unsafe"]
    rows = [["unsafe, unsplit", _share(attack["unsplit"]), ""]]
    for name in (name for name in attack if name not in ("texts", "unsplit")):
        for way in ("at_once", "on_arrival"):
            of = attack[name][f"{way}_of_unsplit"]
            share = "-" if of is None else f"{of:.3f}"
            rows.append([f"split, {name}, {way.replace('_', ' ')}", _share(attack[name][way]), share])
    rows.append(["harmless, alone", _share(calm["alone"]), ""])
    for name in (name for name in calm if name not in ("texts", "alone")):
        rows.append([f"harmless, {name} after unsafe", _share(calm[name]), f"{calm[name]['more_than_alone']:+.3f}"])
    _show(report, json, "conversations", ("turns", "flagged", "of unsplit, or more than alone"), rows)


def exchanges(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Labelled exchanges, unsafe and harmless, *.jsonl or *.jsonl.gz, with the keys text, response and "
            "unsafe (1 or 0, of both together).",
        ),
    ],
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Rows that are used, drawn at random. Default: all.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the rows and of the bootstrap.")] = 0,
    out: Out = None,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Judge exchanges as what they are, by the prompt alone and by the response alone, and report the F1 of each.

    Only the verdict UNSAFE counts as positive. The differences are paired, over the same rows.
    """
    from cascade.bench import exchanges as bench

    rows = bench.read(file, limit, seed)

    async def measure(pipeline: Pipeline, tick: Callable[[], None]) -> dict[str, Any]:
        return await bench.measure(file, rows, pipeline, seed=seed, on_row=tick)

    report = run_bench(measure, bench.steps(rows), stage1, stage2, policy, threads, allow_score_drift, out)
    lines = [
        [way, *(_share(found[name]) for name in bench.METRICS), f"{found['escalated']:.3f}"]
        for way, found in report["judged"].items()
    ]
    for way, found in report["exchange_over"].items():
        lines.append([f"exchange less {way}", *(_more(found[name]) for name in bench.METRICS), ""])
    title = f"exchanges: {report['rows']['unsafe']} unsafe, {report['rows']['harmless']} harmless"
    _show(report, json, title, ("judged", "F1", "precision", "recall", "escalated"), lines)


def streams(
    file: LabelledFile,
    generations: Annotated[int, typer.Option(min=1, help="Generations of each kind, and as many harmless ones.")] = 50,
    words: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Harmless words around the unsafe row. Default: 0, 100, 400, 1500."),
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Write texts word by word into a moderated stream and report how soon it flags, and what it costs.

    It is set against a check of the whole prefix every 32 tokens. Responses of rows are streamed as what they are.
    """
    from cascade.bench import streams as bench
    from cascade.bench.sample import read_sample

    rows = read_sample(file)
    kinds = list(bench.kinds(*rows, generations=generations, lengths=words or bench.LENGTHS, seed=seed))

    async def measure(pipeline: Pipeline, tick: Callable[[], None]) -> list[dict[str, Any]]:
        return await bench.measure(kinds, pipeline, on_row=tick)

    steps = sum(len(kind.unsafe) + len(kind.harmless) for kind in kinds)
    report = run_bench(measure, steps, stage1, stage2, policy, threads, allow_score_drift, out)
    heads = ("generation", "whole prefix blocks", "in 32 tokens", "tokens later", "never", "stage 1", "stage 2", "time")
    lines = []
    for kind in report:
        for times, found in kind["flagged_by_whole_prefix"].items():
            lines.append(
                [
                    f"{kind['kind']}, {times}",
                    f"{found['count']} of {kind['unsafe']}",
                    str(found["in_time"]),
                    " ".join(map(str, found["later"])) or "-",
                    str(found["never"]),
                    _times(kind["tokens_against_one_check"]),
                    _times(kind["tokens"]["stage2"]["ratio"] if "stage2" in kind["tokens"] else None),
                    _times(kind["time_against_one_check"]),
                ]
            )
    title = (
        "streams (cost of harmless ones against one check: tokens of stage 1 and time as medians, of stage 2 in all)"
    )
    _show(report, json, title, heads, lines)


def certificates(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Scores of labelled texts, OUT.scores.jsonl, as `cascade tune` leaves them beside its output.",
        ),
    ],
    max_escalation: MaxEscalation = None,
    max_missed_unsafe: MaxMissedUnsafe = None,
    max_false_positive: MaxFalsePositive = None,
    delta: Delta = 0.05,
    draws: Annotated[
        int, typer.Option(min=1, help="Samples that are drawn, each of which a policy is tuned on.")
    ] = 500,
    rows: Annotated[int, typer.Option(min=2, help="Rows of each sample.")] = 1000,
    policy: PolicyFile = None,
    router: Router = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    out: Out = None,
    json: Json = False,
) -> None:
    """Tune policies on many samples of scored texts and report how often the promises of their certificates break.

    The texts of the file stand for all that there are: each sample is drawn from them with replacement, and what was
    promised is looked up among all of them. In at most delta of the samples any promise may be broken.
    """
    from cascade.bench import certificates as bench
    from cascade.cli.progress import rows_bar

    wishes = wishes_of(max_escalation, max_missed_unsafe, max_false_positive)
    scores = bench.read(file)
    base = bench.unbound(base_policy(policy, router), scores)
    with rows_bar(draws) as tick:
        report = bench.measure(
            scores, wishes, base, delta=delta, draws=draws, rows=rows, seed=seed, on_draw=lambda: tick(None)
        )
    write_report(report, out)
    lines = [
        [name, f"{found['wish']:g}", _number(found["mean"]), _number(found["largest"]), *_broken(found)]
        for name, found in report["promises"].items()
    ]
    lines.append(["any of them", "", "", "", *_broken(report["any"])])
    title = f"certificates: {report['certified']} of {draws} samples of {rows} rows got one, delta {delta:g}"
    _show(report, json, title, ("promise", "wish", "mean", "largest", "broken", "share", "p above delta"), lines)


def run_bench(
    measure: Callable[[Pipeline, Callable[[], None]], Awaitable[Any]],
    steps: int,
    stage1: str,
    stage2: str,
    policy: Path | None,
    threads: int | None,
    allow_score_drift: bool,
    out: Path | None,
) -> Any:
    """Measures on a pipeline behind a progress bar, and writes the report to ``out`` if it is wanted there too.

    Raises:
        CascadeError: the models or the policy cannot be used, or ``out`` not be written.
    """
    from rich.console import Console
    from rich.progress import Progress

    from cascade.cli.options import open_pipeline

    async def run() -> Any:
        async with open_pipeline(stage1, stage2, policy, threads, allow_score_drift) as pipeline:
            with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
                task = bar.add_task("texts", total=steps)
                return await measure(pipeline, lambda: bar.advance(task))

    report = asyncio.run(run())
    write_report(report, out)
    return report


def write_report(report: Any, out: Path | None) -> None:
    """Writes a report to a file, if it is wanted there.

    Raises:
        CascadeError: the file cannot be written.
    """
    from cascade.errors import CascadeError

    if out:
        try:
            out.write_text(dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise CascadeError(f"{out}: {error.strerror}") from error


def _show(report: Any, json: bool, title: str, heads: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if json:
        print(dumps(report))
        return
    table = Table(*heads, title=title)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def _share(share: dict[str, Any]) -> str:
    return "-" if share["value"] is None else f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def _more(share: dict[str, Any]) -> str:
    return "-" if share["value"] is None else f"{share['value']:+.3f} [{share['low']:+.3f}, {share['high']:+.3f}]"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f} x"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _broken(found: dict[str, Any]) -> list[str]:
    share = f"{found['share']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    return [str(found["broken"]), share, f"{found['p_value']:.2g}"]
