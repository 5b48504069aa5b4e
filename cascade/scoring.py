"""What one stage says of a content: *readings* -> encode -> windows -> batch -> scores -> *opinion*.

A reading is one view of one part, or of several parts together. The content is read once raw, and once more for each
other kind of view, in which a part that has no such view stands in raw. Each of these gives a score; the most alarmed
one counts. What the joint readings count for is told in :mod:`cascade.readings`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from math import inf
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

from cascade import tracing
from cascade.batching import Batched, Batcher
from cascade.content import Part
from cascade.errors import CascadeError, StageError
from cascade.memory import Memory
from cascade.merging.segments import pool, pool_largest
from cascade.provenance import scoring
from cascade.readings import Reading, Use
from cascade.readings import readings as find_readings
from cascade.v1.check_pb2 import CheckRequest
from stages.stage import Calibration, Encoding, ModelInfo, Platt, Stage, WindowScores, sigmoid

SHORT = 1000  # code points that are read on the event loop, in half a millisecond: many at once must not stall it
NEWS = 1.0  # calibrated logits by which a turn must make a conversation worse that was over the threshold before it
CALMER = 0.5  # calibrated logits by which a message in pieces may be calmer than what was said before its last piece

Result = TypeVar("Result")


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
        queue_ms: time until the first window was taken up.
        infer_ms: time from there to the last score.
        tokenize_ms: time to cut the content into windows.
        encodings: the readings cut into windows.
        passages: the windows in the order of the readings, if they were asked for.
        scoring: digest of what the scores hang on, by :mod:`cascade.provenance`.
    """

    model: ModelInfo
    uncalibrated: float
    logit: float
    by_view: dict[str, float]
    labels: dict[str, float]
    tokens: int
    segments: int
    queue_ms: float
    infer_ms: float
    tokenize_ms: float = 0.0
    encodings: tuple[Encoding, ...] = ()
    passages: tuple[Passage, ...] = ()
    scoring: str = ""

    @property
    def probability(self) -> float:
        """Calibrated probability, 0 to 1, that the content is unsafe."""
        return sigmoid(self.logit)


async def off_loop_if_long(texts: Sequence[str], work: Callable[[], Result]) -> Result:
    """Does work on texts: here if they are short, on a thread if they are long, so that the event loop goes on."""
    return work() if _are_short(texts) else await asyncio.to_thread(work)


def _are_short(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) <= SHORT


class Meanwhile(Generic[Result]):
    """Work on texts that is done while something else is waited for, or at the latest when its result is wanted.

    It stands in nobody's way: on the event loop only if the texts are short.
    """

    def __init__(self, texts: Sequence[str], work: Callable[[], Result]) -> None:
        self._texts, self._work = texts, work
        self._done: tuple[Result] | None = None
        if _are_short(texts):
            asyncio.get_running_loop().call_soon(self._do)

    async def result(self) -> Result:
        """What comes of the work, or what it raises."""
        if self._done is None:
            return await off_loop_if_long(self._texts, self._work)
        return self._done[0]

    def _do(self) -> None:
        self._done = (self._work(),)


async def read(request: CheckRequest, content: Sequence[Part]) -> tuple[Reading, ...]:
    """All readings of a content; ``content`` are the request's parts."""
    return await off_loop_if_long([part.text for part in content], lambda: find_readings(request, content))


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


def same_windows(one: Stage, other: Stage) -> bool:
    """Whether two stages cut every text into the same windows of the same ids."""
    cuts = [getattr(getattr(stage, "tokenizer", None), "cut", None) for stage in (one, other)]
    return cuts[0] is not None and cuts[0] == cuts[1]


async def ask(
    batcher: Batcher,
    readings: Sequence[Reading],
    *,
    pooling: str,
    threshold: float,
    role: str = "",
    known: Sequence[Encoding] = (),
    adapter: str = "",
    explain: bool = False,
    deadline: float | None = None,
    memory: Memory | None = None,
    caller: str = "",
    bulk: bool = False,
) -> Opinion:
    """Asks one stage.

    Args:
        batcher: the stage.
        readings: what to read.
        pooling: the policy's rule that makes one score of many windows.
        threshold: the calibrated probability from which on what was said before was blocked when it was said.
        role: what the stage is in the cascade, for traces.
        known: the encodings of the readings, where a stage with :func:`same_windows` was asked before.
        adapter: which of the stage's adapters judges; a stage that has none of that name judges as it always does.
        explain: keep the passages.
        deadline: a time of the event loop's clock.
        memory: scores of windows that need not be made again.
        caller: as :meth:`Batcher.score`.
        bulk: the same.

    Raises:
        CascadeError: as :meth:`Batcher.score` and :func:`encode`.
    """
    started = perf_counter()
    encodings = known or await encode(batcher.stage, [reading.view.text for reading in readings])
    tokenize_ms = 1e3 * (perf_counter() - started)
    windows = [window for encoding in encodings for window in encoding.windows]
    calibration = batcher.stage.calibration
    own = adapter if adapter in batcher.stage.info.adapters else ""
    if own:
        windows = [replace(window, adapter=adapter) for window in windows]
        calibration = calibration.of(adapter)
    score = batcher.score if memory is None else partial(memory.score, batcher)
    batched = await score(windows, deadline=deadline, caller=caller, bulk=bulk)
    if span := tracing.CURRENT.get():
        times = (tokenize_ms, batched.queue_ms, batched.infer_ms)
        span.stage(tracing.StageTimes(role, batcher.stage.info.name, started, *times, len(windows)))
    opinion = _opinion(
        batcher.stage.info, calibration, readings, encodings, tokenize_ms, batched, pooling, threshold, explain
    )
    return replace(opinion, scoring=scoring(batcher, pooling, own))


def _opinion(
    model: ModelInfo,
    calibration: Calibration,
    readings: Sequence[Reading],
    encodings: Sequence[Encoding],
    tokenize_ms: float,
    batched: Batched,
    pooling: str,
    threshold: float,
    explain: bool,
) -> Opinion:
    logits = [score.unsafe for score in batched.scores]
    spans = _spans(encodings)
    by_kind = _windows_by_kind(readings, spans)
    pooled = {
        kind: pool([logits[index] for index in indices], pooling, calibration.length_penalty)
        for kind, indices in by_kind.items()
    }
    logit, uses = calibration.unsafe.logit(max(pooled.values())), [Use.OWN]
    if any(reading.joint for reading in readings):
        together = _joint_logits(calibration, readings, spans, logits, threshold, pooling)
        worst = max(together, key=lambda use: together[use])
        if together[worst] > logit:
            logit, uses = together[worst], [Use.OWN, worst]
    counted = [index for use in uses for index in _windows_of(readings, spans, use)]
    probabilities = {index: calibration.unsafe(logits[index]) for index in counted} if explain else {}
    raw = [
        encoding
        for reading, encoding in zip(readings, encodings, strict=True)
        if reading.view.kind == "raw" and not reading.joint
    ]
    own = max(map(len, by_kind.values()))
    return Opinion(
        model=model,
        uncalibrated=sigmoid(max(logits[index] for index in counted)),
        logit=logit,
        by_view={kind: calibration.unsafe(raw_logit) for kind, raw_logit in pooled.items()},
        labels=_labels(model.labels, calibration, [batched.scores[index] for index in counted], pooling, own),
        tokens=sum(encoding.tokens for encoding in raw),
        segments=sum(len(encoding.windows) for encoding in raw),
        queue_ms=batched.queue_ms,
        infer_ms=batched.infer_ms,
        tokenize_ms=tokenize_ms,
        encodings=tuple(encodings),
        passages=tuple(_passages(readings, encodings, spans, probabilities)) if explain else (),
    )


def _spans(encodings: Sequence[Encoding]) -> list[range]:
    """For each reading its windows, as indices over all windows."""
    ends = list(accumulate(len(encoding.windows) for encoding in encodings))
    return [range(start, end) for start, end in pairwise([0, *ends])]


def _windows_of(readings: Sequence[Reading], spans: Sequence[range], use: Use) -> list[int]:
    return [index for reading, span in zip(readings, spans, strict=True) if reading.use is use for index in span]


def _windows_by_kind(readings: Sequence[Reading], spans: Sequence[range]) -> dict[str, list[int]]:
    """For each kind of view the windows in which all that is judged is read that way."""
    by_part: dict[str, dict[str, range]] = {}
    for reading, span in zip(readings, spans, strict=True):
        if reading.use is Use.OWN:
            by_part.setdefault(reading.part.field, {})[reading.view.kind] = span
    kinds = dict.fromkeys(kind for part in by_part.values() for kind in part)
    return {
        kind: [index for part in by_part.values() for index in part.get(kind, part["raw"])]
        for kind in kinds
    }  # fmt: skip


def _joint_logits(
    calibration: Calibration,
    readings: Sequence[Reading],
    spans: Sequence[range],
    logits: Sequence[float],
    threshold: float,
    pooling: str,
) -> dict[Use, float]:
    """The calibrated logits of what is read in one piece; minus infinity for what is not, or says nothing new.

    What was over the threshold before the last turn was blocked then. All turns together count if that turn makes them
    worse; a message in pieces counts unless its last piece makes it calmer, as a turn does that is about another thing.
    """

    def worst(use: Use, rule: str = "max") -> float:
        pooled = [
            pool([logits[index] for index in span], rule, calibration.length_penalty)
            for reading, span in zip(readings, spans, strict=True)
            if reading.use is use
        ]
        return calibration.unsafe.logit(max(pooled)) if pooled else -inf

    joint, message = worst(Use.JOINT), worst(Use.MESSAGE, pooling)
    before = max(worst(Use.BEFORE), worst(Use.OLDER))
    return {
        Use.JOINT: joint if sigmoid(before) < threshold or joint > before + NEWS else -inf,
        Use.MESSAGE: message if message > before - CALMER else -inf,
    }


def _labels(
    labels: Sequence[str], calibration: Calibration, scores: Sequence[WindowScores], pooling: str, windows: int
) -> dict[str, float]:
    """Each label's probability by its largest logit, less what so many windows add to it by chance.

    Labels without calibrators stand as they are, those without a penalty of their own pay what the verdict pays.
    """
    calibrators = calibration.labels or (Platt(),) * len(labels)
    penalties = calibration.label_length_penalties or (calibration.length_penalty,) * len(labels)
    largest = np.max([score.labels for score in scores], axis=0)
    return {
        label: calibrate(pool_largest(float(logit), windows, pooling, penalty))
        for label, calibrate, logit, penalty in zip(labels, calibrators, largest, penalties, strict=True)
    }


def _passages(
    readings: Sequence[Reading], encodings: Sequence[Encoding], spans: Sequence[range], probabilities: dict[int, float]
) -> Iterator[Passage]:
    """The windows that have a probability here, by their indices over all windows."""
    for reading, encoding, span in zip(readings, encodings, spans, strict=True):
        for window, index in zip(encoding.windows, span, strict=True):
            if index in probabilities:
                for place in reading.places(window.start, window.end):
                    yield Passage(*place, probabilities[index])
