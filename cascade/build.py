"""The one place where a pipeline is put together: *model names, policy file* -> stages -> batchers -> *pipeline*."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from cascade.batching import Batcher
from cascade.errors import ModelError
from cascade.limits import Limits
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore, calibration_digest, check_models, default_policy, load
from stages.registry import load_stage
from stages.remote.client import RemoteStage
from stages.stage import Stage
from stages.taxonomy import known_labels

REMOTE_CALLS = 2  # under way at a time: one is scored while the next one is on its way


def build_pipeline(
    *,
    stage1_spec: str | Path = "tinysafe",
    stage2_spec: str | Path | None = "hazard",
    policy_path: Path | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    allow_score_drift: bool = False,
    open_stage2: Callable[[], Stage] | None = None,
) -> Pipeline:
    """Loads what a pipeline needs and checks that it fits together. Blocks for a second or more.

    Args:
        stage1_spec: name of an embedded model, or a model folder.
        stage2_spec: the same; None for a cascade of stage 1 alone.
        policy_path: the policy file; None for the one that comes with the embedded models.
        limits: how large a request may be.
        threads: batches that each stage runs at once; None for one on each core that the process may use.
        allow_score_drift: go on although a model scores differently on this CPU than it promises.
        open_stage2: loads ``stage2_spec`` in another way, for instance in a process of its own.

    Raises:
        PolicyError: the policy is invalid, or was fitted on other models.
        ModelError: a model cannot be used.
    """
    policy = default_policy() if policy_path is None else load(policy_path)
    limits = limits or Limits()
    threads = threads or usable_cores()
    specs = {"stage1": stage1_spec} | ({} if stage2_spec is None else {"stage2": stage2_spec})
    stages = {
        name: open_stage2()
        if name == "stage2" and open_stage2
        else load_stage(spec, allow_score_drift=allow_score_drift)
        for name, spec in specs.items()
    }
    _check_labels(stages)
    files = {name: stage.info.files for name, stage in stages.items()}
    check_models(policy, files, {name: calibration_digest(stage.calibration) for name, stage in stages.items()})
    batchers = {name: _batcher(stage, threads, limits) for name, stage in stages.items()}
    return Pipeline(batchers["stage1"], batchers.get("stage2"), PolicyStore([policy]), limits)


def _batcher(stage: Stage, threads: int, limits: Limits) -> Batcher:
    if isinstance(stage, RemoteStage):  # it scores in its own process: here a thread only waits for it
        return Batcher(
            stage,
            threads=REMOTE_CALLS,
            max_tokens_per_batch=stage.batch_tokens,
            max_queued_windows=limits.max_queued_windows,
        )
    return Batcher(stage, threads=threads, max_queued_windows=limits.max_queued_windows)


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_labels(stages: Mapping[str, Stage]) -> None:
    """Refuses labels for which an answer has no place."""
    for name, stage in stages.items():
        unknown = set(stage.info.labels) - known_labels(stage.info.taxonomy)
        if unknown:
            raise ModelError(f"{name}: {stage.info.name} has unknown labels: {', '.join(sorted(unknown))}")
