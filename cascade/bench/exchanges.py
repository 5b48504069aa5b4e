"""What it is worth to read a prompt with its answer: *labelled exchanges, pipeline* -> F1 of both, and of each alone.

The label of such a row is of the pair. It is judged three times: as an exchange, by its prompt alone and by its
response alone. Only the verdict UNSAFE counts as positive. The differences are paired: each resample of the bootstrap
has the same rows for all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.bench.sample import OnRow, about, drawn, read_labelled
from cascade.bulk import check_patiently, in_order
from cascade.content import check_request
from cascade.evaluate.metrics import Bools, Metric, bootstrap, decision_metrics
from cascade.evaluate.rows import Row
from cascade.evaluate.scoring import EvaluationError
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import CheckRequest, Verdict

EXCHANGE, PROMPT, RESPONSE = "exchange", "prompt alone", "response alone"
WAYS = (EXCHANGE, PROMPT, RESPONSE)
METRICS = ("f1", "precision", "recall")


def read(path: Path, limit: int | None, seed: int) -> list[Row]:
    """The labelled rows of a file that have a text and a response; at most ``limit`` of them, drawn at random.

    They are drawn from all, so that the share of unsafe ones, on which an F1 depends, stays about what it is.

    Raises:
        DataError: the file cannot be read, a line is no row, or no such row is unsafe, or harmless.
    """
    found = read_labelled(path, lambda row: bool(row.response and row.response.strip()), "row with a response")
    return drawn(found, limit, seed)


def asked(row: Row, way: str) -> CheckRequest:
    """The request that judges a row in one of the three ways."""
    response = row.response or ""
    if way == EXCHANGE:
        return check_request(row.text, response, request_id="-")
    return check_request(row.text if way == PROMPT else response, request_id="-")


def steps(rows: Sequence[Row]) -> int:
    """How often ``on_row`` is called by :func:`measure`."""
    return len(WAYS) * len(rows)


async def measure(
    path: Path, rows: Sequence[Row], pipeline: Pipeline, *, seed: int = 0, in_flight: int = 16, on_row: OnRow
) -> dict[str, Any]:
    """Measures rows that :func:`read` found in the file ``path``, under the pipeline's default policy.

    Raises:
        CascadeError: as :meth:`Pipeline.check`; EvaluationError if a stage failed on a row.
    """
    found = {way: await _verdicts(rows, way, pipeline, in_flight, on_row) for way in WAYS}
    positive: Bools = np.array([bool(row.unsafe) for row in rows], bool)
    metrics: dict[str, Metric] = {}
    for way, (unsafe, _) in found.items():
        of_way = decision_metrics(positive, unsafe)
        metrics |= {f"{way}.{name}": of_way[name] for name in METRICS}
    for way in (PROMPT, RESPONSE):
        metrics |= {f"over {way}.{name}": _difference(metrics, f"{way}.{name}", name) for name in METRICS}
    estimates = {name: estimate.to_dict() for name, estimate in bootstrap(metrics, len(rows), seed=seed).items()}
    return {
        **about(path, pipeline),
        "seed": seed,
        "rows": {"unsafe": int(positive.sum()), "harmless": int((~positive).sum())},
        "judged": {
            way: {name: estimates[f"{way}.{name}"] for name in METRICS} | {"escalated": float(escalated.mean())}
            for way, (_, escalated) in found.items()
        },
        "exchange_over": {
            way: {name: estimates[f"over {way}.{name}"] for name in METRICS} for way in (PROMPT, RESPONSE)
        },
    }


async def _verdicts(
    rows: Sequence[Row], way: str, pipeline: Pipeline, in_flight: int, on_row: OnRow
) -> tuple[Bools, Bools]:
    """Which rows are found unsafe in one of the ways, and which of them are escalated."""
    found: list[tuple[bool, bool]] = []

    async def ask(row: Row) -> tuple[bool, bool]:
        answer = await check_patiently(pipeline, asked(row, way))
        if answer.degraded:
            raise EvaluationError(f"row {row.id}: degraded answer: {answer.degraded_reason}")
        return answer.verdict == Verdict.VERDICT_UNSAFE, answer.route.escalated

    def done(row: Row, judged: tuple[bool, bool]) -> None:
        found.append(judged)
        on_row()

    await in_order(rows, ask, done, in_flight=in_flight, characters=lambda row: len(row.text) + len(row.response or ""))
    unsafe, escalated = zip(*found, strict=True)
    return np.array(unsafe, bool), np.array(escalated, bool)


def _difference(metrics: dict[str, Metric], of: str, name: str) -> Metric:
    """How much more an exchange has of a metric."""
    exchange, other = metrics[f"{EXCHANGE}.{name}"], metrics[of]
    return lambda weights: exchange(weights) - other(weights)
