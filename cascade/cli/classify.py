"""``cascade classify``: judges a text given on the command line, or texts out of a file or standard input."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

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
)

if TYPE_CHECKING:
    from cascade.pipeline import Pipeline
    from cascade.v1.check_pb2 import CheckResponse, Explanation

STDIN = "-"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(classify)


def classify(
    text: Annotated[
        str | None, typer.Argument(help="The text, or - to read from standard input.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="Read a text from each line; empty lines are skipped.", show_default=False),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Take the file, or standard input, as one text instead of one a line.")
    ] = False,
    response: Annotated[
        str | None,
        typer.Option(help="The answer that the text got; judges both as an exchange.", show_default=False),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show why: evidence, rule, sentences that count.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a text, each on a line.")] = False,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    policy: PolicyFile = None,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
) -> None:
    """Judge texts and print the verdicts. A text that cannot be judged gets its error, and the exit code is 1."""
    if (text is None) == (file is None):
        raise typer.BadParameter("give either a TEXT, or - for standard input, or --file FILE")
    source = STDIN if text == STDIN or file == Path(STDIN) else file
    if response is not None and source is not None and not whole:
        raise typer.BadParameter("--response belongs to one text: add --whole", param_hint="--response")

    async def run() -> bool:
        with _texts(text or "", source, whole) as texts:
            async with open_pipeline(stage1, stage2, policy, threads, allow_score_drift) as pipeline:
                judged = [await _judge(pipeline, n, one, response, explain, json) for n, one in enumerate(texts, 1)]
        return all(judged)

    if not asyncio.run(run()):
        raise typer.Exit(1)


@contextmanager
def _texts(text: str, source: Path | str | None, whole: bool) -> Iterator[Iterator[str]]:
    from cascade.errors import InvalidRequestError

    if source is None:
        yield iter([text])
        return
    # Bytes that are no UTF-8 become lone surrogates, which spoil their own text only.
    decoding = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
    try:
        file: IO[str] = open(sys.stdin.fileno() if source == STDIN else source, closefd=source != STDIN, **decoding)  # type: ignore[call-overload]  # noqa: SIM115
    except OSError as error:
        raise InvalidRequestError(f"{source}: {error.strerror}", "file") from error
    with file:
        yield iter([file.read()]) if whole else (line for raw in file if (line := raw.rstrip("\r\n")))


async def _judge(pipeline: Pipeline, number: int, text: str, response: str | None, explain: bool, json: bool) -> bool:
    """Judges one text and prints the answer or the error; whether there was an answer."""
    from cascade.content import check_request
    from cascade.errors import CascadeError
    from cascade.jsonform import to_dict

    try:
        answer = await pipeline.check(check_request(text, response, request_id=str(number), explain=explain))
    except CascadeError as error:
        if json:
            failure = {"code": error.reason, "message": str(error)}
            print(dumps({"requestId": str(number), "error": failure}), flush=True)
        else:
            print(f"{number}: {error}", file=sys.stderr)
        return False
    if json:
        print(dumps(to_dict(answer)), flush=True)
    else:
        _show(answer)
    return True


def _show(answer: CheckResponse) -> None:
    """Prints an answer for people; never the text itself."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cascade.v1.check_pb2 import Action, RouteReason, Verdict

    verdict = Verdict.Name(answer.verdict).removeprefix("VERDICT_")
    action = Action.Name(answer.action).removeprefix("ACTION_")
    reason = RouteReason.Name(answer.route.reason).removeprefix("ROUTE_REASON_").lower()
    colour = {"SAFE": "green", "CONTROVERSIAL": "yellow", "UNSAFE": "red"}[verdict]
    console = Console(highlight=False, markup=False)
    probability = f" {action}, unsafe with probability {answer.unsafe_probability:.3f}"
    console.print(Text.assemble(f"{answer.request_id}: ", (verdict, f"bold {colour}"), probability))
    table = Table(box=None, show_header=False, padding=(0, 2))
    way = "escalated" if answer.route.escalated else "not escalated"
    table.add_row("route", ", ".join([f"{way} ({reason})", *answer.route.triggers]))
    for stage in answer.stages:
        took = stage.tokenize_ms + stage.queue_ms + stage.infer_ms
        table.add_row(stage.name, f"{stage.calibrated_probability:.3f}, {stage.model}@{stage.revision}, {took:.1f} ms")
    hazards = sorted((h for h in answer.hazards if h.HasField("probability")), key=lambda h: -h.probability)
    for hazard in [h for h in hazards if h.flagged] or hazards[:1]:
        above = "flagged" if hazard.flagged else "not flagged"
        table.add_row(
            f"{hazard.code} {hazard.slug}", f"{hazard.probability:.3f}, {above} (from {hazard.threshold:.3f})"
        )
    for category in sorted(answer.categories, key=lambda c: -c.probability)[:2]:
        table.add_row(category.name, f"{category.probability:.3f}")
    coverage = answer.coverage
    table.add_row("read", f"{coverage.tokens_scored} of {coverage.tokens_total} tokens, segments: {coverage.segments}")
    for span in answer.spans:
        table.add_row(f"{span.field}[{span.start}:{span.end}]", f"{span.score:.3f} by {span.stage}")
    for label, value in (("rule", answer.override_rule), ("degraded", answer.degraded_reason)):
        if value:
            table.add_row(label, value)
    if answer.HasField("explanation"):
        for label, value in _why(answer.explanation):
            table.add_row(label, value)
    console.print(table)


def _why(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """The lines of an explanation."""
    compared = f": {explanation.probability:.3f} against {explanation.threshold:.3f}"
    yield "decided by", explanation.rule + (compared if explanation.HasField("threshold") else "")
    for hazard in explanation.definitions:
        yield f"{hazard.code} means", hazard.definition
    for part in explanation.contributions:
        yield f"{part.field}[{part.start}:{part.end}]", f"without it {part.stage} is lower by {part.drop:.3f}"
    if explanation.missing:
        yield "contributions", f"not found out: {explanation.missing}"
