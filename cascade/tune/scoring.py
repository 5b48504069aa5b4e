"""Labelled texts -> *pipeline* -> what both stages said of each, once: a cache beside the output keeps it.

Every text is checked under the policy with everything escalated, so that the numbers are those that a request gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade import provenance
from cascade.bulk import Checker, check_patiently, in_order
from cascade.content import check_request
from cascade.errors import CascadeError
from cascade.evaluate.rows import Row
from cascade.evaluate.scoring import EvaluationError
from cascade.jsonform import to_dict
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore, calibration_digest, fingerprint
from cascade.tune.scores import Loaded, ScoredRow, read_header, read_log, row_of_answer, write_cache
from stages.taxonomy import speaks_categories


def models(pipeline: Pipeline) -> dict[str, str]:
    """NAME@REVISION of each stage."""
    infos = {name: batcher.stage.info for name, batcher in pipeline.stages.items()}
    return {name: f"{info.name}@{info.revision}" for name, info in infos.items()}


def made(pipeline: Pipeline) -> dict[str, Any]:
    """How the pipeline scores, as the header of a cache has it: the keys of :data:`cascade.tune.scores.MADE`."""
    stages = {name: batcher.stage for name, batcher in pipeline.stages.items()}
    return {
        "files": {name: fingerprint(stage.info.files) for name, stage in stages.items()},
        "calibrations": {name: calibration_digest(stage.calibration) for name, stage in stages.items()},
        "segments": pipeline.policies.get().merge.segments,
        "reading": provenance.reading(),
    }


def loaded(pipeline: Pipeline) -> Loaded:
    """What a log's rows must have been scored by to be the pipeline's own."""
    pooling = pipeline.policies.get().merge.segments
    scoring = {name: provenance.scoring(batcher, pooling) for name, batcher in pipeline.stages.items()}
    return Loaded(models(pipeline), made(pipeline), scoring, separable(pipeline))


def separable(pipeline: Pipeline) -> bool:
    """Whether an answer of both stages tells what stage 1 alone says: it alone has categories, and names no hazards."""
    first, second = (batcher.stage.info.taxonomy for batcher in pipeline.stages.values())
    return speaks_categories(first) and not speaks_categories(second)


async def score_rows(
    rows: Sequence[Row], pipeline: Pipeline, *, in_flight: int, on_row: Callable[[Row], None] = lambda row: None
) -> list[ScoredRow]:
    """Scores rows, ``in_flight`` at a time.

    Raises:
        EvaluationError: a row could not be judged by both stages; the message names its id.
    """
    both = _escalating(pipeline)
    alone = Pipeline(pipeline.stages["stage1"], None, both.policies, pipeline.limits)
    separate = separable(pipeline)
    scored: list[ScoredRow] = []

    async def score(row: Row) -> ScoredRow:
        labels = {"id": row.id, "unsafe": row.unsafe, "labels": list(row.labels), "lang": row.lang}
        try:
            found = row_of_answer(labels, await _answer(row, both), f"row {row.id}")
            if not separate:
                first = row_of_answer(labels, await _answer(row, alone), f"row {row.id}", stages=("stage1",))
                labels_of_first = {**first.stage1_labels, **first.hazards}
                found = replace(found, stage1_labels=labels_of_first, stage1_hazards=first.hazards)
            return found
        except CascadeError as error:
            raise EvaluationError(f"row {row.id}: {error}") from error

    def done(row: Row, result: ScoredRow) -> None:
        scored.append(result)
        on_row(row)

    await in_order(
        rows, score, done, in_flight=in_flight, characters=lambda row: len(row.text) + len(row.response or "")
    )
    return scored


async def score_cached(
    rows: Sequence[Row],
    data: str,
    pipeline: Pipeline,
    cache: Path,
    *,
    in_flight: int,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[ScoredRow]:
    """The cached scores if they are of this data (a SHA-256), these models and these rules of scoring, else new ones.

    Raises:
        EvaluationError: as :func:`score_rows`.
        DataError: the cache is of the same data, but was damaged.
    """
    named = models(pipeline)
    header: dict[str, Any] = {"data": data, "rows": len(rows), "models": named, **made(pipeline)}
    if read_header(cache) == header:
        kept = read_log(cache, named)
        for row in rows:
            on_row(row)
        return kept
    scored = await score_rows(rows, pipeline, in_flight=in_flight, on_row=on_row)
    write_cache(cache, header, scored)
    return scored


def _escalating(pipeline: Pipeline) -> Pipeline:
    """The same stages under the same policy, but with every text audited."""
    policy = pipeline.policies.get()
    everything = policy.model_copy(update={"route": policy.route.model_copy(update={"audit_rate": 1.0})})
    stages = pipeline.stages
    return Pipeline(stages["stage1"], stages["stage2"], PolicyStore([everything]), pipeline.limits)


async def _answer(row: Row, checker: Checker) -> dict[str, Any]:
    answer = await check_patiently(checker, check_request(row.text, row.response, request_id="-"))
    if answer.degraded:
        raise EvaluationError(f"degraded answer: {answer.degraded_reason}")
    return to_dict(answer)
