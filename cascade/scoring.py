"""What one stage says of a content: *readings* -> encode -> windows -> batch -> scores -> *opinion*.

A reading is one view of one part. The content is read once raw, and once more for each other kind of view, in which a
part that has no such view stands in raw. Each of these gives a score; the most alarmed one counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypeVar

import numpy as np

from cascade.batching import Batched, Batcher
from cascade.content import Part
from cascade.errors import CascadeError, StageError
from cascade.merging.segments import pool
from cascade.text.views import View, views
from stages.stage import Encoding, ModelInfo, Platt, Stage, WindowScores, sigmoid

SHORT = 4000  # code points that are read on the event loop: the hop to a thread would cost about as much

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reading:
    """One view of one part of the content."""

    part: Part
    view: View


@dataclass(frozen=True, slots=True)
class Passage:
    """A window: where it lies in the raw text of its field, in code points, and how unsafe it is, calibrated."""

    field: str
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a stage says of a content.

    Attributes:
        model: which model says it.
        uncalibrated: probability that the content is unsafe, before calibration.
        logit: the same as a calibrated logit, and ``probability`` as a calibrated probability.
        by_view: calibrated probability of the content as read in each kind of view, "raw" first.
        labels: calibrated probability of each of the stage's labels.
        tokens: tokens of the raw content.
        segments: windows of the raw content.
        tokenize_ms: time to cut the content into windows.
        queue_ms: time until the first window was taken up.
        infer_ms: time from there to the last score.
        passages: the windows in the order of the readings, if they were asked for.
    """

    model: ModelInfo
    uncalibrated: float
    logit: float
    by_view: dict[str, float]
    labels: dict[str, float]
    tokens: int
    segments: int
    tokenize_ms: float
    queue_ms: float
    infer_ms: float
    passages: tuple[Passage, ...] = ()

    @property
    def probability(self) -> float:
        """Calibrated probability, 0 to 1, that the content is unsafe."""
        return sigmoid(self.logit)


async def off_loop_if_long(texts: Sequence[str], work: Callable[[], Result]) -> Result:
    """Does work on texts: here if they are short, on a thread if they are long, so that the event loop goes on."""
    return work() if sum(map(len, texts)) <= SHORT else await asyncio.to_thread(work)


async def read(content: Sequence[Part]) -> tuple[Reading, ...]:
    """All views of all parts."""
    texts = [part.text for part in content]
    return await off_loop_if_long(
        texts, lambda: tuple(Reading(part, view) for part in content for view in views(part.text))
    )


async def encode(stage: Stage, texts: Sequence[str]) -> list[Encoding]:
    """Cuts texts into windows that cover all of them.

    Raises:
        StageError: the stage could not read a text.
    """
    try:
        return await off_loop_if_long(texts, lambda: [stage.encode(text) for text in texts])
    except CascadeError:
        raise
    except Exception as error:
        raise StageError(f"{stage.info.name} could not read a text: {type(error).__name__}") from error


async def ask(
    batcher: Batcher, readings: Sequence[Reading], *, pooling: str, explain: bool = False, deadline: float | None = None
) -> Opinion:
    """Asks one stage.

    Args:
        batcher: the stage.
        readings: what to read.
        pooling: the policy's rule that makes one score of many windows.
        explain: keep the passages.
        deadline: a time of the event loop's clock.

    Raises:
        CascadeError: as :meth:`Batcher.score` and :func:`encode`.
    """
    started = perf_counter()
    encodings = await encode(batcher.stage, [reading.view.text for reading in readings])
    tokenize_ms = 1e3 * (perf_counter() - started)
    windows = [window for encoding in encodings for window in encoding.windows]
    batched = await batcher.score(windows, deadline=deadline)
    opinion = _opinion(batcher.stage, readings, encodings, batched, pooling, tokenize_ms)
    return replace(opinion, passages=_passages(readings, encodings, batched, batcher.stage)) if explain else opinion


def _opinion(
    stage: Stage,
    readings: Sequence[Reading],
    encodings: Sequence[Encoding],
    batched: Batched,
    pooling: str,
    tokenize_ms: float,
) -> Opinion:
    calibration = stage.calibration
    logits = [score.unsafe for score in batched.scores]
    pooled = {
        kind: pool([logits[index] for index in indices], pooling, calibration.length_penalty)[0]
        for kind, indices in _windows_by_kind(readings, encodings).items()
    }
    raw = [encoding for reading, encoding in zip(readings, encodings, strict=True) if reading.view.kind == "raw"]
    return Opinion(
        model=stage.info,
        uncalibrated=sigmoid(max(logits)),
        logit=calibration.unsafe.logit(max(pooled.values())),
        by_view={kind: calibration.unsafe(logit) for kind, logit in pooled.items()},
        labels=_labels(stage, batched.scores),
        tokens=sum(encoding.tokens for encoding in raw),
        segments=sum(len(encoding.windows) for encoding in raw),
        tokenize_ms=tokenize_ms,
        queue_ms=batched.queue_ms,
        infer_ms=batched.infer_ms,
    )


def _windows_by_kind(readings: Sequence[Reading], encodings: Sequence[Encoding]) -> dict[str, list[int]]:
    """For each kind of view the windows in which the whole content is read that way, as indices over all windows."""
    by_part: dict[str, dict[str, range]] = {}
    first = 0
    for reading, encoding in zip(readings, encodings, strict=True):
        after = first + len(encoding.windows)
        by_part.setdefault(reading.part.field, {})[reading.view.kind] = range(first, after)
        first = after
    kinds = dict.fromkeys(reading.view.kind for reading in readings)
    return {
        kind: [index for part in by_part.values() for index in part.get(kind, part["raw"])]
        for kind in kinds
    }  # fmt: skip


def _labels(stage: Stage, scores: Sequence[WindowScores]) -> dict[str, float]:
    """The largest probability of each label over all windows; labels without calibrators stand as they are."""
    labels = stage.info.labels
    calibrators = stage.calibration.labels or (Platt(),) * len(labels)
    logits = np.max([score.labels for score in scores], axis=0)
    return {label: calibrate(float(logit)) for label, calibrate, logit in zip(labels, calibrators, logits, strict=True)}


def _passages(
    readings: Sequence[Reading], encodings: Sequence[Encoding], batched: Batched, stage: Stage
) -> tuple[Passage, ...]:
    scores = iter(batched.scores)
    found = []
    for reading, encoding in zip(readings, encodings, strict=True):
        for window in encoding.windows:
            start, end = reading.view.raw_span(window.start, window.end)
            found.append(Passage(reading.part.field, start, end, stage.calibration.unsafe(next(scores).unsafe)))
    return tuple(found)
