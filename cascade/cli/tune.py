"""``cascade tune``: from labelled texts and wishes to a policy with a certificate, or to what stands in its way."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.options import HAZARD, TINYSAFE, AllowScoreDrift, Json, PolicyFile, Stage1, Threads, open_pipeline
from cascade.cli.progress import rows_bar
from cascade.cli.promises import Delta, MaxEscalation, MaxFalsePositive, MaxMissedUnsafe, Router, base_policy, wishes_of

if TYPE_CHECKING:
    from cascade.tune.fit import Request, Tuned

INFEASIBLE = 3  # the exit code


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("tune")(tune_policy)


def tune_policy(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            exists=True,
            dir_okay=False,
            help="Labelled texts, JSONL (.gz too) with the keys id, text, response (optional), unsafe, labels, lang: a "
            "random sample of the texts that the promises are about, which the models were not trained on.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Policy file to write; scores are kept beside it in OUT.scores.jsonl.")],
    max_escalation: MaxEscalation = None,
    max_missed_unsafe: MaxMissedUnsafe = None,
    max_false_positive: MaxFalsePositive = None,
    delta: Delta = 0.05,
    from_log: Annotated[
        bool,
        typer.Option(
            "--from-log",
            help="DATA is a log of scores: OUT.scores.jsonl of an earlier run, or labelled answers under `result`, as "
            "an audit log or `cascade scan` has them, of which those count that the random audit drew "
            "(`result.route.audited`). Scores of other models, calibrations or releases are refused.",
        ),
    ] = False,
    policy: PolicyFile = None,
    router: Router = None,
    name: Annotated[str, typer.Option(help="Name of the policy that is written.")] = "tuned",
    report: Annotated[
        Path | None,
        typer.Option(help="HTML report with charts. Default: OUT with the suffix .html.", show_default=False),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Draws the half that is searched and the half that certifies. To try seeds, or wishes, until one "
            "passes breaks the guarantee.",
        ),
    ] = 0,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Rows that are scored at the same time; it changes no figure.")
    ] = 16,
    stage1: Stage1 = TINYSAFE,
    stage2: Annotated[str, typer.Option(help="Model of stage 2: an embedded name or a model folder.")] = HAZARD,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Fit a policy to labelled texts under promises that are proven on rows the search never saw.

    One half of the rows is searched for thresholds, the other certifies them: Learn then Test, binomial tails, a fixed
    sequence. With probability 1 - delta all promises hold at once. Where they cannot be proven no policy is written,
    the exit code is 3, and the nearest points are printed with the rows that a proof would take; report and scores are
    written all the same. Only the policy's thresholds are tuned; merge rule, actions and audit rate are --policy's.
    """
    from cascade.tune.report import html
    from cascade.tune.run import Aim, Source, tune

    wishes = wishes_of(max_escalation, max_missed_unsafe, max_false_positive)
    base = base_policy(policy, router)
    source = Source(data, None if from_log else out.with_name(out.name + ".scores.jsonl"))
    rows = [] if from_log else source.read()
    page = report or out.with_suffix(".html")
    _make_folders(out, page)

    async def run() -> tuple[Tuned, Request]:
        async with open_pipeline(stage1, stage2, None, threads, allow_score_drift) as pipeline:
            with rows_bar(len(rows)) as on_row:
                aim = Aim(wishes, delta, name, seed)
                return await tune(source, rows, pipeline, base, aim, in_flight=in_flight, on_row=on_row)

    tuned, request = asyncio.run(run())
    _write(page, html(tuned, request, shlex.join(["cascade", *sys.argv[1:]])))
    if tuned.policy is not None:
        _write(out, f"# Written by cascade tune; see its certificate.\n{tuned.policy.toml}")
    if json:
        print(dumps(_summary(tuned, request, out, page)))
    else:
        _show(tuned, request)
        print(f"{out}: revision {tuned.policy.revision}; report {page}" if tuned.policy else f"report {page}")
    if tuned.policy is None:
        print("\n".join(_obstacles(tuned, request)), file=sys.stderr)
        if out.exists():
            print(f"{out} is left as it was: it does not keep these wishes", file=sys.stderr)
        raise typer.Exit(INFEASIBLE)


def _make_folders(*paths: Path) -> None:
    from cascade.evaluate.rows import DataError

    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{path.parent}: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    """Writes a file that appears under its name only when it is complete."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _summary(tuned: Tuned, request: Request, out: Path, page: Path) -> dict[str, Any]:
    promises = zip(request.wishes, tuned.proof.promises, strict=True)
    return {
        "feasible": tuned.policy is not None,
        "policy": str(out) if tuned.policy else None,
        "revision": tuned.policy.revision if tuned.policy else None,
        "report": str(page),
        "delta": request.delta,
        "tested": tuned.proof.tested,
        "promises": {wish.name: promise.model_dump() for wish, promise in promises},
        "low": tuned.rules.low,
        "unsafe_threshold": tuned.rules.unsafe_threshold,
        "nearest": [asdict(point) for point in tuned.points],
        "needs": [asdict(need) for need in tuned.needs],
    }


def _show(tuned: Tuned, request: Request) -> None:
    from rich.console import Console
    from rich.table import Table

    title = "proven" if tuned.policy else "not proven: the surest candidate"
    table = Table("promise", "wish", "empirical", "n", "bound", "p", title=title, title_justify="left")
    for wish, promise in zip(request.wishes, tuned.proof.promises, strict=True):
        shown = (f"{promise.empirical:.4f}", str(promise.n), f"{promise.bound:.4f}", f"{promise.p_value:.2g}")
        table.add_row(wish.name, f"{wish.limit:g}", *shown)
    Console(highlight=False, markup=False).print(table)


def _obstacles(tuned: Tuned, request: Request) -> list[str]:
    lines = [f"infeasible: no policy is proven to keep these wishes at delta {request.delta:g}; no policy was written"]
    for need in tuned.needs:
        lines.append(
            f"  {need.wish}: {need.share:.1%} of {need.there} {need.rows_of} in the half that certifies; "
            + (
                "no number of rows would prove the wish at this share"
                if need.needed is None
                else f"at this share {need.needed} of them would prove the wish, about {2 * need.needed} in all"
            )
        )
    if tuned.points:
        lines.append("nearest points, by the half that is searched (a hint; certify new wishes on new rows):")
    for point in tuned.points:
        limits = ", ".join(f"{name} <= {limit:g}" for name, limit in point.limits.items())
        lines.append(f"  {limits} ({point.relaxed or 'each'} gives way)")
    return lines
