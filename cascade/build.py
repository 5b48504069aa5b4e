"""The one place where a pipeline is put together: *model names, policy file* -> stages -> batchers -> *pipeline*."""

from __future__ import annotations

import os
from pathlib import Path

from cascade.batching import Batcher
from cascade.errors import ModelError
from cascade.limits import Limits
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore, check_models, default_policy, load
from stages.registry import load_stage
from stages.stage import Stage
from stages.taxonomy import HAZARD_INDEX


def build_pipeline(
    *,
    stage1_spec: str | Path = "tinysafe",
    stage2_spec: str | Path | None = "hazard",
    policy_path: Path | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    allow_score_drift: bool = False,
) -> Pipeline:
    """Loads what a pipeline needs and checks that it fits together. Blocks for a second or more.

    Args:
        stage1_spec: name of an embedded model, or a model folder.
        stage2_spec: the same; None for a cascade of stage 1 alone.
        policy_path: the policy file; None for the one that comes with the embedded models.
        limits: how large a request may be.
        threads: batches that each stage runs at once; None for one on each core that the process may use.
        allow_score_drift: go on although a model scores differently on this CPU than it promises.

    Raises:
        PolicyError: the policy is invalid, or was fitted on other models.
        ModelError: a model cannot be used.
    """
    policy = default_policy() if policy_path is None else load(policy_path)
    limits = limits or Limits()
    threads = threads or usable_cores()
    specs = {"stage1": stage1_spec} | ({} if stage2_spec is None else {"stage2": stage2_spec})
    stages = {name: load_stage(spec, allow_score_drift=allow_score_drift) for name, spec in specs.items()}
    _check_labels(stages)
    check_models(policy, {name: stage.info.files for name, stage in stages.items()})
    batchers = {
        name: Batcher(stage, threads=threads, max_queued_windows=limits.max_queued_windows)
        for name, stage in stages.items()
    }
    return Pipeline(batchers["stage1"], batchers.get("stage2"), PolicyStore([policy]), limits)


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_labels(stages: dict[str, Stage]) -> None:
    if "stage2" in stages and not set(stages["stage2"].info.labels) <= set(HAZARD_INDEX):
        raise ModelError(f"stage 2 must speak hazards, but {stages['stage2'].info.name} has other labels")
