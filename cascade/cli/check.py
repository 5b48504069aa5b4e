"""``cascade check``: loads what ``serve`` would load and runs a warm-up through every stage."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from json import dumps
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from cascade.cli.options import (
    HAZARD,
    TINYSAFE,
    AllowScoreDrift,
    Json,
    PolicyFile,
    Stage1,
    Stage2,
    Threads,
    open_pipeline,
)

if TYPE_CHECKING:
    from cascade.pipeline import Pipeline

WARM_UP = "Is the kettle still on?"


@dataclass(frozen=True)
class Step:
    """One thing that was tried: ``detail`` says what was found, or what is wrong."""

    name: str
    ok: bool
    detail: str
    ms: float


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(check)


def check(
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    json: Json = False,
) -> None:
    """Load the models and the policy, run a warm-up through every stage, and exit; with code 1 if anything fails."""
    from cascade.errors import CascadeError

    steps: list[Step] = []

    async def run() -> None:
        started, doing = perf_counter(), "load"

        def passed(detail: str) -> None:
            nonlocal started
            steps.append(Step(doing, True, detail, 1e3 * (perf_counter() - started)))
            started = perf_counter()

        try:
            async with open_pipeline(stage1, stage2, policy, threads, allow_score_drift) as pipeline:
                passed(_policy(pipeline))
                for name, batcher in pipeline.stages.items():
                    doing = name
                    await batcher.score(batcher.stage.encode(WARM_UP).windows)
                    info = batcher.stage.info
                    passed(f"{info.name}@{info.revision} on {info.device}, {info.runtime}")
                doing = "cascade"
                passed(await _answer(pipeline))
        except CascadeError as error:
            steps.append(Step(doing, False, str(error), 1e3 * (perf_counter() - started)))

    asyncio.run(run())
    _show(steps, json)
    if not all(step.ok for step in steps):
        raise typer.Exit(1)


def _policy(pipeline: Pipeline) -> str:
    policy = pipeline.policies.get()
    return f"models verified, policy {policy.name}@{policy.revision}"


async def _answer(pipeline: Pipeline) -> str:
    """The verdict on the warm-up.

    Raises:
        StageError: the answer was made with less than the whole cascade.
    """
    from cascade.content import check_request
    from cascade.errors import StageError
    from cascade.v1.check_pb2 import Verdict

    answer = await pipeline.check(check_request(WARM_UP))
    if answer.degraded:
        raise StageError(answer.degraded_reason)
    return f"answered {Verdict.Name(answer.verdict).removeprefix('VERDICT_')}"


def _show(steps: list[Step], json: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if json:
        print(dumps({"ok": all(step.ok for step in steps), "steps": [asdict(step) for step in steps]}))
        return
    table = Table("step", "", "what", "ms")
    for step in steps:
        state = Text("ok", "green") if step.ok else Text("FAILED", "red")
        table.add_row(step.name, state, step.detail, f"{step.ms:.1f}")
    Console(markup=False).print(table)
