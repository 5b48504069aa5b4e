"""What the ``args`` of the application may say; a wrong key or value is refused before anything is deployed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """The models, and how much of a node one replica uses. How many replicas there are is for Ray's own settings.

    Attributes:
        stage1: model of stage 1: an embedded name, a model folder, or a hub id.
        stage2: the same for stage 2; "none" judges with stage 1 alone.
        runtime: what runs stage 2: "onnxruntime" (CPU) or "torch".
        device: where torch runs it: "cpu" or "cuda"; Ray shows a replica only the GPUs that it was given.
        threads: batches that a replica of stage 1 scores at a time; give it as many CPUs.
        stage2_threads: the same for stage 2; on torch its CPU threads.
        stage2_calls: batches that a replica of stage 1 has under way at stage 2.
        stage2_batch_tokens: work of such a batch, in tokens; None for what suits the device.
        stage2_timeout_s: what stage 2 may take for a batch, a retry on another replica included.
        cache_entries: answers that a replica keeps for requests that come again.
        allow_score_drift: go on although a model scores its golden texts differently on this CPU.
        token_file: who may call, as ``cascade token`` writes it, at the same path on each node; None lets in everybody.
        log_level: the least that is logged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage1: str = "tinysafe"
    stage2: str = "hazard"
    runtime: Literal["onnxruntime", "torch"] = "onnxruntime"
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    threads: int = Field(1, ge=1)
    stage2_threads: int = Field(1, ge=1)
    stage2_calls: int = Field(4, ge=1)
    stage2_batch_tokens: int | None = Field(None, ge=1)
    stage2_timeout_s: float = Field(30.0, gt=0)
    cache_entries: int = Field(0, ge=0)
    allow_score_drift: bool = False
    token_file: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def alone(self) -> bool:
        """Whether there is no stage 2."""
        return self.stage2 == "none"
