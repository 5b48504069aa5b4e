"""ModelService and StageService: the loaded stages, described, and on the wire without routing, merging or policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from time import perf_counter
from typing import Protocol

from cascade.batching import Batched, Batcher
from cascade.errors import (
    DependencyError,
    InvalidRequestError,
    LimitExceededError,
    ModelError,
    NotFoundError,
    PreconditionError,
    StageError,
    UnsupportedError,
)
from cascade.limits import Limits
from cascade.live import Live
from cascade.scoring import encode
from cascade.serve.admission import Admission
from cascade.serve.coordinator import Control
from cascade.serve.identity import Call
from cascade.v1.model_service_pb2 import (
    ListModelsRequest,
    ListModelsResponse,
    Model,
    ReloadModelsRequest,
    ReloadModelsResponse,
)
from cascade.v1.stage_service_pb2 import (
    DescribeRequest,
    DescribeResponse,
    ScoreRequest,
    ScoreResponse,
    TextScores,
    WindowScores,
)
from stages.remote.wire import describe, to_model, tokenizer_of
from stages.stage import Stage, Window


class ModelService:
    """The methods of ``cascade.v1.ModelService``."""

    def __init__(self, live: Live, control: Control) -> None:
        self._live = live
        self._control = control

    async def list_models(self, request: ListModelsRequest, call: Call) -> ListModelsResponse:
        """Lists the loaded models, in the order in which a text meets them."""
        return ListModelsResponse(models=self._models())

    async def reload_models(self, request: ReloadModelsRequest, call: Call) -> ReloadModelsResponse:
        """Loads the models, and the policy file, that have changed on disk."""
        try:
            changed = await self._control.reload()
        except (DependencyError, ModelError, StageError) as error:  # in a check it would be the server's own fault
            raise PreconditionError(str(error)) from error
        return ReloadModelsResponse(models=self._models(), changed=changed)

    def _models(self) -> list[Model]:
        return [to_model(name, batcher.stage.info) for name, batcher in self._live.pipeline.stages.items()]


class Stages(Protocol):
    """Stages by name, and how much may be asked of them at once; a pipeline, for instance."""

    @property
    def stages(self) -> Mapping[str, Batcher]:
        """The stages."""

    @property
    def limits(self) -> Limits:
        """The limits."""


class StageService:
    """The methods of ``cascade.v1.StageService``; ``hold`` gives the stages of now, open until it is left."""

    def __init__(self, hold: Callable[[], AbstractContextManager[Stages]], admission: Admission | None = None) -> None:
        self._hold = hold
        self._admission = admission

    async def describe(self, request: DescribeRequest, call: Call) -> DescribeResponse:
        """Describes a stage so far that its caller can cut texts for it."""
        with self._hold() as held:
            return describe(request.stage, _batcher(held.stages, request.stage).stage)

    async def score(self, request: ScoreRequest, call: Call) -> ScoreResponse:
        """Scores texts on one stage, each covered whole, or windows; an empty text is one window."""
        with self._hold() as held:
            batcher = _batcher(held.stages, request.stage)
            _check(request, batcher.stage, held.limits)
            if self._admission is None:
                return await _score(batcher, request, call)
            with self._admission.admit({request.stage: batcher}, request.ByteSize(), call, bulk=True):
                return await _score(batcher, request, call, bulk=True)


async def _score(batcher: Batcher, request: ScoreRequest, call: Call, *, bulk: bool = False) -> ScoreResponse:
    started = perf_counter()
    encodings = await encode(batcher.stage, request.texts)
    tokenized = perf_counter()
    windows = [replace(window, adapter=request.adapter) for found in encodings for window in found.windows]
    given = [Window(tuple(window.ids), 0, 0, window.adapter) for window in request.windows]
    batched = await batcher.score(windows + given, deadline=call.deadline, caller=call.caller, bulk=bulk)
    scores = iter(_scores(windows + given, batched))
    return ScoreResponse(
        model=to_model(request.stage, batcher.stage.info),
        results=[
            TextScores(tokens=encoding.tokens, windows=[next(scores) for _ in encoding.windows])
            for encoding in encodings
        ],
        windows=scores,
        tokenize_ms=(tokenized - started) * 1000,
        queue_ms=batched.queue_ms,
        infer_ms=batched.infer_ms,
        oom_halvings=batcher.oom_halvings,
    )


def _batcher(stages: Mapping[str, Batcher], name: str) -> Batcher:
    batcher = stages.get(name)
    if batcher is None:
        raise NotFoundError(f"stage: this server runs {' and '.join(stages)}, no other")
    return batcher


def _check(request: ScoreRequest, stage: Stage, limits: Limits) -> None:
    """Refuses what the stage cannot score. An id beyond the vocabulary could cost a GPU its whole context."""
    if request.texts and request.windows:
        raise InvalidRequestError("texts and windows go in requests of their own", "windows")
    if len(request.texts) > limits.max_batch:
        message = f"at most {limits.max_batch} texts at once, these are {len(request.texts)}"
        raise InvalidRequestError(message, "texts")
    if sum(len(text.encode()) for text in request.texts) > limits.max_text_bytes:
        raise LimitExceededError("bytes of text", limits.max_text_bytes)
    if sum(len(window.ids) for window in request.windows) > limits.max_text_bytes:
        raise LimitExceededError("tokens", limits.max_text_bytes)  # a token is a byte of text, or more
    for name in {request.adapter, *(window.adapter for window in request.windows)} - {""}:
        if name not in stage.info.adapters:
            raise NotFoundError(f"adapter: {request.stage} has no adapter of that name")
    if not request.windows:
        return
    tokenizer = tokenizer_of(stage)
    if tokenizer is None:
        raise UnsupportedError(f"{request.stage} takes texts only: its tokenizer has no form for other processes")
    for index, window in enumerate(request.windows):
        if not 0 < len(window.ids) <= stage.info.window_tokens:
            message = f"windows[{index}].ids must be 1 to {stage.info.window_tokens} tokens"
            raise InvalidRequestError(message, f"windows[{index}].ids")
        if min(window.ids) < 0 or max(window.ids) > tokenizer.largest_id:
            message = f"windows[{index}].ids must be 0 to {tokenizer.largest_id}"
            raise InvalidRequestError(message, f"windows[{index}].ids")


def _scores(windows: Sequence[Window], batched: Batched) -> list[WindowScores]:
    return [
        WindowScores(start=window.start, end=window.end, unsafe_logit=score.unsafe, label_logits=score.labels)
        for window, score in zip(windows, batched.scores, strict=True)
    ]
