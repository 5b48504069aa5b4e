"""ModelService and StageService: the loaded stages, described, and on the wire without routing, merging or policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter

from cascade.batching import Batched, Batcher
from cascade.errors import InvalidRequestError, LimitExceededError, NotFoundError, UnsupportedError
from cascade.limits import Limits
from cascade.scoring import encode
from cascade.v1.model_service_pb2 import ListModelsRequest, ListModelsResponse
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
    """The methods of ``cascade.v1.ModelService``. ``stages`` is in the order in which a text meets them."""

    def __init__(self, stages: Mapping[str, Batcher]) -> None:
        self._models = [to_model(name, batcher.stage.info) for name, batcher in stages.items()]

    async def list_models(self, request: ListModelsRequest, deadline: float | None) -> ListModelsResponse:
        """Lists the loaded models."""
        return ListModelsResponse(models=self._models)


class StageService:
    """The methods of ``cascade.v1.StageService``."""

    def __init__(self, stages: Mapping[str, Batcher], limits: Limits) -> None:
        self._stages = stages
        self._limits = limits

    async def describe(self, request: DescribeRequest, deadline: float | None) -> DescribeResponse:
        """Describes a stage so far that its caller can cut texts for it."""
        return describe(request.stage, self._batcher(request.stage).stage)

    async def score(self, request: ScoreRequest, deadline: float | None) -> ScoreResponse:
        """Scores texts on one stage, each covered whole, or windows; an empty text is one window."""
        batcher = self._batcher(request.stage)
        self._check(request, batcher.stage)
        started = perf_counter()
        encodings = await encode(batcher.stage, request.texts)
        tokenized = perf_counter()
        windows = [replace(window, adapter=request.adapter) for found in encodings for window in found.windows]
        given = [Window(tuple(window.ids), 0, 0, window.adapter) for window in request.windows]
        batched = await batcher.score(windows + given, deadline=deadline)
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

    def _batcher(self, name: str) -> Batcher:
        batcher = self._stages.get(name)
        if batcher is None:
            raise NotFoundError(f"stage: this server runs {' and '.join(self._stages)}, no other")
        return batcher

    def _check(self, request: ScoreRequest, stage: Stage) -> None:
        """Refuses what the stage cannot score. An id beyond the vocabulary could cost a GPU its whole context."""
        if request.texts and request.windows:
            raise InvalidRequestError("texts and windows go in requests of their own", "windows")
        if len(request.texts) > self._limits.max_batch:
            message = f"at most {self._limits.max_batch} texts at once, these are {len(request.texts)}"
            raise InvalidRequestError(message, "texts")
        if sum(len(text.encode()) for text in request.texts) > self._limits.max_text_bytes:
            raise LimitExceededError("bytes of text", self._limits.max_text_bytes)
        if sum(len(window.ids) for window in request.windows) > self._limits.max_text_bytes:
            raise LimitExceededError("tokens", self._limits.max_text_bytes)  # a token is a byte of text, or more
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
