"""How much a small first stage costs in safety when texts are disguised: *labelled rows, pipeline* -> report.

The figure is the *cascade-induced loss*: of the unsafe texts that stage 2 alone would have caught, by its score or by a
hazard that blocks, the share that was lost because stage 1 did not send them on. It is reported for each transformation
and for a black-box search, beside the share of harmless texts that is escalated, which is the price of keeping it low.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from cascade.bench.sample import OnRow, about
from cascade.bench.search import QUERIES, wins
from cascade.bench.transformations import TRANSFORMATIONS, Transformation
from cascade.bulk import check_patiently, in_order
from cascade.content import check_request
from cascade.errors import UnsupportedError
from cascade.evaluate.metrics import Bools, bootstrap, ratio
from cascade.evaluate.rows import DataError, Row
from cascade.evaluate.scoring import Judged, Scores, evaluation_pipeline, score_rows
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import ROUTE_REASON_TRIGGERED, Route


def chosen(names: Sequence[str]) -> dict[str, Transformation]:
    """The transformations of these names, all if there are none.

    Raises:
        DataError: there is no transformation of that name.
    """
    for name in names:
        if name not in TRANSFORMATIONS:
            raise DataError(f"no disguise is called {name!r}; there are {', '.join(TRANSFORMATIONS)}")
    return {name: transform for name, transform in TRANSFORMATIONS.items() if not names or name in names}


def steps(unsafe: Sequence[Row], harmless: Sequence[Row], searched: int, disguises: int = len(TRANSFORMATIONS)) -> int:
    """How often ``on_row`` is called by :func:`measure`."""
    return (len(unsafe) + len(harmless)) * (1 + disguises) + min(searched, len(unsafe))


async def measure(
    path: Path,
    unsafe: Sequence[Row],
    harmless: Sequence[Row],
    pipeline: Pipeline,
    *,
    disguises: Mapping[str, Transformation] = TRANSFORMATIONS,
    queries: int = QUERIES,
    searched: int = 50,
    seed: int = 0,
    in_flight: int = 16,
    on_row: OnRow = lambda: None,
) -> dict[str, Any]:
    """Measures the loss.

    Args:
        path: the file that the rows came from, for the report.
        unsafe: the texts to disguise.
        harmless: the texts whose escalation is the price.
        pipeline: what to measure, under its default policy.
        disguises: what is done to each text, by name.
        queries: that the search may make for a text.
        searched: texts that the search tries, of those that stage 2 catches as they stand.
        seed: of the transformations, the search and the bootstrap.
        in_flight: rows that are scored at once.
        on_row: called after each row, and after each search.

    Raises:
        EvaluationError: a row could not be judged.
        UnsupportedError: the pipeline has no stage 2.
    """
    if "stage2" not in pipeline.stages:
        raise UnsupportedError("what a cascade loses is measured against its stage 2: there must be one")
    policy = pipeline.policies.get()
    checker = evaluation_pipeline(pipeline)

    async def score(rows: Sequence[Row]) -> Scores:
        return await score_rows(rows, checker, in_flight=in_flight, on_row=lambda row: on_row())

    async def route(rows: Sequence[Row]) -> list[Route]:
        """What becomes of rows under the policy; stage 2 is asked only where the policy asks it."""
        found: list[Route] = []

        async def ask(row: Row) -> Route:
            request = check_request(row.text, row.response, request_id="-")
            return (await check_patiently(pipeline, request)).route

        def done(row: Row, answer: Route) -> None:
            found.append(answer)
            on_row()

        await in_order(rows, ask, done, in_flight=in_flight, characters=lambda row: len(row.text))
        return found

    plain, routes = await score(unsafe), await route(harmless)
    reports, outcomes = [_report("none", plain, routes, seed)], []
    for name, transform in disguises.items():
        rng = Random(f"{seed} {name}")
        variants = [[replace(row, text=transform(row.text, rng)) for row in rows] for rows in (unsafe, harmless)]
        scores = await score(variants[0])
        reports.append(_report(name, scores, await route(variants[1]), seed))
        outcomes.append(_outcome(scores))

    async def search(row: Row, number: int) -> bool:
        async def ask(text: str) -> Judged:
            scores = await score_rows([replace(row, text=text)], checker, in_flight=1)
            return Judged(*(getattr(scores, name)[0] for name in Judged.__dataclass_fields__))

        won = await wins(row.text, ask, Random(f"{seed} search {number}"), queries)
        on_row()
        return won

    targets = [row for row, caught in zip(unsafe, plain.stage2_unsafe, strict=True) if caught][:searched]
    won = [await search(row, number) for number, row in enumerate(targets)]
    opening = about(path, pipeline)
    triggered = [route.reason == ROUTE_REASON_TRIGGERED for route in routes]
    pooled = [np.concatenate(part) for part in zip(*outcomes, strict=True)] or [np.zeros(0, bool)] * 2
    return {
        **opening,
        "policy": opening["policy"] | {"stage2_threshold": policy.stage2.unsafe_threshold},
        "seed": seed,
        "rows": {"unsafe": len(unsafe), "harmless": len(harmless)},
        "harmless_escalated": reports[0]["harmless_escalated"],
        "harmless_escalated_by_triggers_alone": float(np.mean(triggered)),
        "transformations": reports,
        "all_transformations": _share(pooled[0], pooled[1], seed),
        "search": {"queries": queries, **_share(np.array(won, bool), np.ones(len(won), bool), seed)},
    }


def _report(name: str, unsafe: Scores, harmless: Sequence[Route], seed: int) -> dict[str, Any]:
    return {
        "name": name,
        **_share(*_outcome(unsafe), seed),
        "recall": float(unsafe.unsafe.mean()),
        "harmless_escalated": float(np.mean([route.escalated for route in harmless])),
    }


def _outcome(unsafe: Scores) -> tuple[Bools, Bools]:
    """Which rows were lost, and which stage 2 alone would have caught."""
    caught = unsafe.stage2_unsafe
    return caught & ~unsafe.escalated & ~unsafe.unsafe, caught


def _share(lost: Bools, caught: Bools, seed: int) -> dict[str, Any]:
    """How many were caught and lost, and the loss with its interval; None where nothing was caught."""
    weights = lost.astype(float), caught.astype(float)
    loss = bootstrap({"loss": lambda w: ratio(w @ weights[0], w @ weights[1])}, len(lost), seed=seed)["loss"]
    return {"caught_by_stage2": int(caught.sum()), "lost": int(lost.sum()), "loss": loss.to_dict()}
