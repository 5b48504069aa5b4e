"""ModelService and StageService: the loaded stages, described, and on the wire without routing, merging or policy."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from cascade.batching import Batcher
from cascade.errors import InvalidRequestError, LimitExceededError, NotFoundError
from cascade.limits import Limits
from cascade.scoring import encode
from cascade.v1.model_service_pb2 import ListModelsRequest, ListModelsResponse, Model
from cascade.v1.stage_service_pb2 import ScoreRequest, ScoreResponse, TextScores, WindowScores
from stages.stage import ModelInfo


class ModelService:
    """The methods of ``cascade.v1.ModelService``. ``stages`` is in the order in which a text meets them."""

    def __init__(self, stages: Mapping[str, Batcher]) -> None:
        self._models = [model(name, batcher.stage.info) for name, batcher in stages.items()]

    async def list_models(self, request: ListModelsRequest, deadline: float | None) -> ListModelsResponse:
        """Lists the loaded models."""
        return ListModelsResponse(models=self._models)


class StageService:
    """The methods of ``cascade.v1.StageService``."""

    def __init__(self, stages: Mapping[str, Batcher], limits: Limits) -> None:
        self._stages = stages
        self._limits = limits

    async def score(self, request: ScoreRequest, deadline: float | None) -> ScoreResponse:
        """Scores texts on one stage, each covered whole; an empty text is one window."""
        batcher = self._stages.get(request.stage)
        if batcher is None:
            raise NotFoundError(f"stage: this server runs {' and '.join(self._stages)}, no other")
        if len(request.texts) > self._limits.max_batch:
            message = f"at most {self._limits.max_batch} texts at once, these are {len(request.texts)}"
            raise InvalidRequestError(message, "texts")
        if sum(len(text.encode()) for text in request.texts) > self._limits.max_text_bytes:
            raise LimitExceededError("bytes of text", self._limits.max_text_bytes)
        started = perf_counter()
        encodings = await encode(batcher.stage, request.texts)
        tokenized = perf_counter()
        windows = [window for encoding in encodings for window in encoding.windows]
        batched = await batcher.score(windows, deadline=deadline)
        scores = iter(batched.scores)
        results = []
        for encoding in encodings:
            result = TextScores(tokens=encoding.tokens)
            for window, score in zip(encoding.windows, scores, strict=False):
                result.windows.append(
                    WindowScores(
                        start=window.start, end=window.end, unsafe_logit=score.unsafe, label_logits=score.labels
                    )
                )
            results.append(result)
        return ScoreResponse(
            model=model(request.stage, batcher.stage.info),
            results=results,
            tokenize_ms=(tokenized - started) * 1000,
            queue_ms=batched.queue_ms,
            infer_ms=batched.infer_ms,
        )


def model(stage: str, info: ModelInfo) -> Model:
    """A loaded model as the contract describes it."""
    return Model(
        stage=stage,
        name=info.name,
        kind=info.kind,
        revision=info.revision,
        files=info.files,
        taxonomy=info.taxonomy,
        labels=info.labels,
        device=info.device,
        runtime=info.runtime,
        licence=info.licence,
        window_tokens=info.window_tokens,
    )
