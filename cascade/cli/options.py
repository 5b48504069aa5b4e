"""What the commands that judge texts share: their options, and the pipeline made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cascade.pipeline import Pipeline

TINYSAFE, HAZARD, NONE = "tinysafe", "hazard", "none"

Stage1 = Annotated[
    str,
    typer.Option(help="Model of stage 1: an embedded name, a model folder, a folder as published, or a hub id."),
]
Stage2 = Annotated[
    str,
    typer.Option(
        help='Model of stage 2: as for stage 1, "none" to judge with stage 1 alone, or the address of a server that '
        "runs it: grpcs://HOST:PORT, or grpc:// on this machine."
    ),
]


def named(text: str, value: str, hint: str) -> tuple[str, str]:
    """``NAME=VALUE`` -> both; ``value`` and ``hint`` are what the value and the parameter are called to the user.

    Raises:
        BadParameter: one of them is missing.
    """
    name, _, found = text.partition("=")
    if not (name and found):
        raise typer.BadParameter(f"{text}: NAME={value} is wanted", param_hint=hint)
    return name, found


def _policy_file(given: Path | None) -> Path | None:
    from cascade.policy import find

    return None if given is None else find(given)


PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        callback=_policy_file,
        help='Policy file, or a built-in policy: "default", for prompts, or "comments", for readers\' comments. '
        "Default: default.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Batches that each stage scores at the same time. Default: the CPUs that the process may use.",
        show_default=False,
    ),
]
AllowScoreDrift = Annotated[
    bool,
    typer.Option(
        "--allow-score-drift",
        help="Go on although a model scores its golden texts differently on this CPU than where it was calibrated.",
    ),
]
Server = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="The server: HOST:PORT, or grpcs://HOST:PORT?ca=FILE&token_file=FILE where it has TLS and tokens.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def specs(
    stage1: str, stage2: str, policy: Path | None, threads: int | None, allow_score_drift: bool
) -> dict[str, Any]:
    """These options as ``cascade.build.build_pipeline`` takes them."""
    return {
        "stage1_spec": stage1,
        "stage2_spec": None if stage2 == NONE else stage2,
        "policy_path": policy,
        "threads": threads,
        "allow_score_drift": allow_score_drift,
    }


@asynccontextmanager
async def open_pipeline(
    stage1: str, stage2: str, policy: Path | None, threads: int | None, allow_score_drift: bool
) -> AsyncIterator[Pipeline]:
    """Loads the models as ``serve`` does, and closes the pipeline in the end.

    Raises:
        CascadeError: a model or the policy cannot be used.
    """
    from cascade.build import build_pipeline

    pipeline = build_pipeline(**specs(stage1, stage2, policy, threads, allow_score_drift))
    try:
        yield pipeline
    finally:
        await pipeline.close()
