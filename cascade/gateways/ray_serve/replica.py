"""A replica of stage 2: *windows of many callers* -> batches -> one model -> logits. It autoscales by itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from math import inf

from google.rpc.status_pb2 import Status

from cascade.batching import Batcher
from cascade.errors import CascadeError, StageUnavailableError
from cascade.gateways.ray_serve.settings import Settings
from cascade.limits import Limits
from cascade.observe import logs
from cascade.serve.device import require_device
from cascade.serve.errors import to_status
from cascade.serve.identity import Call
from cascade.serve.models import StageService
from cascade.serve.stage_process import warm_up
from cascade.v1.stage_service_pb2 import DescribeRequest, DescribeResponse, ScoreRequest, ScoreResponse
from stages.registry import load_stage
from stages.remote.described import batch_tokens_of
from stages.resident import load_resident
from stages.stage import Stage

PART = "stage2"


@dataclass(frozen=True)
class _Alone:
    """The one stage that a replica has."""

    stages: Mapping[str, Batcher]
    limits: Limits


class StageReplica:
    """Loads and warms the model before it takes part; then answers as ``cascade.v1.StageService`` does.

    Raises:
        CascadeError: the model cannot be used here.
    """

    def __init__(self, settings: Settings) -> None:
        logs.configure(settings.log_level)
        stage = _load(settings)
        warm_up(stage)
        self._batcher = Batcher(
            stage,
            threads=settings.stage2_threads if settings.runtime == "onnxruntime" else 1,  # torch has its own
            max_tokens_per_batch=settings.stage2_batch_tokens or batch_tokens_of(stage.info.device),
            timeout_s=inf,  # whoever calls has one
        )
        alone = _Alone({PART: self._batcher}, Limits())
        self._service = StageService(lambda: nullcontext(alone))

    async def describe(self) -> DescribeResponse:
        """What a caller needs to know to cut texts and to read scores."""
        return await self._service.describe(DescribeRequest(stage=PART), Call())

    async def score(self, request: ScoreRequest) -> ScoreResponse | Status:
        """Scores windows; a failure is a status, for an exception would lose its kind on the way."""
        try:
            return await self._service.score(request, Call())
        except CascadeError as error:
            return to_status(error, method="cascade.v1.StageService/Score", request_id="")

    def check_health(self) -> None:
        """Asked by Ray, which replaces a replica that is not well.

        Raises:
            StageUnavailableError: the model has failed too often in a row.
        """
        if self._batcher.breaker.is_open:
            raise StageUnavailableError(f"{PART} has failed too often in a row")


def _load(settings: Settings) -> Stage:
    if settings.runtime == "onnxruntime":
        return load_stage(settings.stage2, allow_score_drift=settings.allow_score_drift)
    require_device(settings.device)
    import torch

    torch.set_num_threads(settings.stage2_threads)
    return load_resident(settings.stage2, device=settings.device)
