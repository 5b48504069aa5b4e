"""Rows -> *pipeline* -> what stage 1, stage 2 and the cascade say of each row.

The cascade's numbers are the answers of ``check`` themselves. Where it did not ask stage 2, the row is checked once
more under the same policy with every text escalated, for what stage 2 alone would have said; what stage 1 said of a
window is remembered, so that it counts, and costs, once.

*Stage 2 alone* is the policy with every text escalated and stage 1 ignored: a text is unsafe from stage 2's own
threshold on, or where stage 2 names a hazard that blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cascade.bulk import Checker, check_patiently, in_order
from cascade.content import check_request
from cascade.errors import CascadeError
from cascade.evaluate.rows import Row
from cascade.memory import Memory
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore
from cascade.v1.check_pb2 import CheckRequest, CheckResponse, RouteReason, StageReport, Verdict
from stages.taxonomy import TINYSAFE_CATEGORIES, speaks_categories

EVERYTHING = "evaluation-escalates-everything"


class EvaluationError(CascadeError):
    """A row got no full answer, so that the numbers would not be those of all rows."""

    reason = "EVALUATION_FAILED"


@dataclass(frozen=True)
class Judged:
    """What was said of one row; probabilities are calibrated, hazards and categories in their order, NaN where unknown.

    ``cascade``, ``unsafe``, ``controversial`` and ``escalated`` are of the policy; ``merged`` and ``both_unsafe`` are
    what is said when both stages are asked, ``stage2_unsafe`` what stage 2 alone decides; ``tokens`` counts stage 1's.
    """

    stage1: float
    stage2: float
    cascade: float
    merged: float
    unsafe: bool
    both_unsafe: bool
    stage2_unsafe: bool
    controversial: bool
    escalated: bool
    reason: str
    tokens: int
    hazards: tuple[float, ...]
    categories: tuple[float, ...]


@dataclass(frozen=True)
class Scores:
    """What was said of rows, an entry a row in each field of :class:`Judged`.

    ``hazards`` has shape (rows, 14), ``categories`` (rows, 7).
    """

    stage1: NDArray[np.float64]
    stage2: NDArray[np.float64]
    cascade: NDArray[np.float64]
    merged: NDArray[np.float64]
    unsafe: NDArray[np.bool_]
    both_unsafe: NDArray[np.bool_]
    stage2_unsafe: NDArray[np.bool_]
    controversial: NDArray[np.bool_]
    escalated: NDArray[np.bool_]
    reason: NDArray[np.str_]
    tokens: NDArray[np.int_]
    hazards: NDArray[np.float64]
    categories: NDArray[np.float64]

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> Scores:
        """Collects rows; at least one."""
        return cls(*(np.array([getattr(row, field.name) for row in judged]) for field in fields(Judged)))

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """The rows of several sets one after the other; at least one set."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def at(self, indices: NDArray[np.int_]) -> Scores:
        """Some of the rows."""
        return Scores(*(getattr(self, field.name)[indices] for field in fields(self)))


def evaluation_pipeline(pipeline: Pipeline) -> Pipeline:
    """The same stages under two policies: the default one, and the same with every text escalated, by name."""
    policy = pipeline.policies.get()
    audit_all = policy.route.model_copy(update={"audit_rate": 1.0})
    everything = policy.model_copy(update={"name": EVERYTHING, "route": audit_all})
    return pipeline.with_policies(PolicyStore([policy, everything]))


async def score_rows(
    rows: Sequence[Row], checker: Pipeline, *, in_flight: int, on_row: Callable[[Row], None] = lambda row: None
) -> Scores:
    """Scores rows, ``in_flight`` at a time, through a pipeline made by :func:`evaluation_pipeline`.

    Raises:
        EvaluationError: a row could not be judged by every part; the message names its id.
    """
    judged: list[Judged] = []

    async def judge(row: Row) -> Judged:
        try:
            return await _judge(row, checker)
        except CascadeError as error:
            raise EvaluationError(f"row {row.id}: {error}") from error

    def done(row: Row, result: Judged) -> None:
        judged.append(result)
        on_row(row)

    await in_order(
        rows, judge, done, in_flight=in_flight, characters=lambda row: len(row.text) + len(row.response or "")
    )
    return Scores.of(judged)


class _Remembering(Checker):
    """A pipeline that scores no window of a row twice."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._memory = pipeline, Memory()

    async def check(self, request: CheckRequest) -> CheckResponse:
        """Answers one request."""
        return await self._pipeline.check(request, memory=self._memory)


async def _judge(row: Row, pipeline: Pipeline) -> Judged:
    checker = _Remembering(pipeline)
    answer = await _check(row, checker)
    full = answer if answer.route.escalated else await _check(row, checker, EVERYTHING)
    categories = {category.name: category.probability for category in full.categories}
    return Judged(
        stage1=_report(answer, "stage1").calibrated_probability,
        stage2=_report(full, "stage2").calibrated_probability,
        cascade=answer.unsafe_probability,
        merged=full.unsafe_probability,
        unsafe=answer.verdict == Verdict.VERDICT_UNSAFE,
        both_unsafe=full.verdict == Verdict.VERDICT_UNSAFE,
        stage2_unsafe=_is_unsafe_by_stage2(full, pipeline),
        controversial=answer.verdict == Verdict.VERDICT_CONTROVERSIAL,
        escalated=answer.route.escalated,
        reason=RouteReason.Name(answer.route.reason).removeprefix("ROUTE_REASON_"),
        tokens=answer.coverage.tokens_total,
        hazards=tuple(h.probability if h.HasField("probability") else math.nan for h in full.hazards),
        categories=tuple(categories.get(name, math.nan) for name in TINYSAFE_CATEGORIES),
    )


def _is_unsafe_by_stage2(full: CheckResponse, pipeline: Pipeline) -> bool:
    """What the policy makes of stage 2's verdict and of the hazards that stage 2 names, without stage 1."""
    policy, model = pipeline.policies.get(), pipeline.stages["stage2"].stage.info
    named = () if speaks_categories(model.taxonomy) else model.labels  # a category may share a hazard's name
    blocks = {slug for slug in named if slug in policy.hazards and policy.hazards[slug].action == "BLOCK"}
    over = _report(full, "stage2").calibrated_probability >= policy.stage2.unsafe_threshold
    return over or any(hazard.flagged and hazard.slug in blocks for hazard in full.hazards)


async def _check(row: Row, checker: Checker, policy: str = "") -> CheckResponse:
    answer = await check_patiently(checker, check_request(row.text, row.response, request_id="-", policy=policy))
    if answer.degraded:
        raise EvaluationError(f"degraded answer: {answer.degraded_reason}")
    return answer


def _report(answer: CheckResponse, stage: str) -> StageReport:
    report = next((report for report in answer.stages if report.name == stage), None)
    if report is None:
        raise EvaluationError(f"{stage} did not answer")
    return report
