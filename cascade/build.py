"""The one place where a pipeline is put together: *model names, policy file* -> stages -> batchers -> *pipeline*."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from cascade.batching import Batcher
from cascade.cache import MAX_BYTES, Answers
from cascade.cores import usable_cores
from cascade.errors import ModelError
from cascade.limits import Limits
from cascade.pipeline import Pipeline
from cascade.policy import Policy, PolicyStore, calibration_digest, check_models, default_policy, load
from stages.encoder import ONNXRUNTIME
from stages.registry import load_stage
from stages.remote.client import RemoteStage
from stages.stage import Stage
from stages.taxonomy import known_labels

REMOTE_CALLS = 2  # under way at a time: one is scored while the next one is on its way

log = logging.getLogger(__name__)


def build_pipeline(
    *,
    stage1_spec: str | Path = "tinysafe",
    stage2_spec: str | Path | None = "hazard",
    policies: Sequence[Policy] = (),
    policy_path: Path | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    allow_score_drift: bool = False,
    runtimes: Mapping[str, str] | None = None,
    stage2_address: str = "",
    keep: Mapping[str, Batcher] | None = None,
    cache_entries: int = 0,
    cache_bytes: int = MAX_BYTES,
    audit_key: bytes = b"",
) -> Pipeline:
    """Loads what a pipeline needs and checks that it fits together. Blocks for a second or more.

    Args:
        stage1_spec: name of an embedded model, or a model folder.
        stage2_spec: the same; None for a cascade of stage 1 alone.
        policies: the policies that requests may name, the default one first; none for that of ``policy_path``.
        policy_path: the policy file; None for the one that comes with the embedded models.
        limits: how large a request may be.
        threads: batches that each stage runs at once; None for one on each core that the process may use.
        allow_score_drift: go on although a model scores differently on this CPU than it promises.
        runtimes: what runs a stage that is loaded here, by its name: "onnxruntime", the default, or "openvino".
        stage2_address: where stage 2 runs in a process of its own; empty to load it here.
        keep: stages of another pipeline that are not to be loaded again, by name.
        cache_entries: answers that are kept for requests that come again; 0 keeps and shares none.
        cache_bytes: the most memory that they take.
        audit_key: see :class:`~cascade.pipeline.Pipeline`.

    Raises:
        PolicyError: a policy is invalid, or was fitted on other models.
        ModelError: a model cannot be used.
    """
    policies = policies or [default_policy() if policy_path is None else load(policy_path)]
    limits = limits or Limits()
    threads = threads or usable_cores()
    specs = {"stage1": stage1_spec} | ({} if stage2_spec is None else {"stage2": stage2_spec})
    batchers = dict(keep or {})
    for name, spec in specs.items():
        if name in batchers:
            continue
        stage: Stage
        if name == "stage2" and stage2_address:
            stage = RemoteStage(stage2_address, name, timeout_s=limits.stage_timeout_s)
        else:
            runtime = (runtimes or {}).get(name, ONNXRUNTIME)
            stage = load_stage(spec, allow_score_drift=allow_score_drift, runtime=runtime, calls=threads)
        batchers[name] = _batcher(stage, threads, limits)
    stages = {name: batchers[name].stage for name in specs}
    _check_labels(stages)
    check_policies(policies, stages)
    warn_of_thresholds(policies, stages)
    _warn_of_no_judge(stages)
    _bound_torch(stages.values(), threads)
    calibrations = {name: calibration_digest(stage.calibration) for name, stage in stages.items()}
    models = "".join(f"{stages[name].info!r}{digest}" for name, digest in calibrations.items())
    answers = Answers(models, entries=cache_entries, max_bytes=cache_bytes) if cache_entries else None
    return Pipeline(batchers["stage1"], batchers.get("stage2"), PolicyStore(policies), limits, answers, audit_key)


def check_policies(policies: Iterable[Policy], stages: Mapping[str, Stage]) -> None:
    """Checks that policies may be applied to what these stages say.

    Raises:
        PolicyError: one was fitted on other models, or certified for others.
    """
    files = {name: stage.info.files for name, stage in stages.items()}
    calibrations = {name: calibration_digest(stage.calibration) for name, stage in stages.items()}
    for policy in policies:
        check_models(policy, files, calibrations)


def warn_of_thresholds(policies: Iterable[Policy], stages: Mapping[str, Stage]) -> None:
    """Logs each stage whose logits nobody calibrated, under policies that were not fitted on it.

    Models as their authors publish them are such: the thresholds of the default policy were made for other ones.
    """
    for name, stage in stages.items():
        unfitted = [policy.name for policy in policies if not was_fitted(policy, name)]
        if unfitted and not stage.calibration.fitted:
            log.warning(
                "%s: %s@%s is not calibrated, and the thresholds of policy %s were not fitted on it, so that they mean "
                "little here: fit a policy on it with `cascade tune`",
                name,
                stage.info.name,
                stage.info.revision,
                ", ".join(unfitted),
            )


def was_fitted(policy: Policy, stage: str) -> bool:
    """Whether a policy names the model that its thresholds were fitted on as that stage."""
    return policy.certificate is not None or getattr(policy.models, stage) is not None


def _warn_of_no_judge(stages: Mapping[str, Stage]) -> None:
    """Logs what becomes of a stage 1 that only names hazards: it can call nothing safe."""
    info = stages["stage1"].info
    if not info.judges:
        judged = "stage2" in stages and stages["stage2"].info.judges
        means = "every text goes on to stage 2" if judged else "no stage does, and no verdict means anything"
        log.warning(
            "stage1: %s@%s names hazards of unsafe texts and does not tell them from safe ones: %s",
            info.name,
            info.revision,
            means,
        )


def _bound_torch(stages: Iterable[Stage], threads: int) -> None:
    """Gives torch, which runs a batch on many threads, the cores that it would else take several times over."""
    networks = [stage for stage in stages if _is_torch_here(stage)]
    if networks and any(stage.info.device == "cpu" for stage in networks):
        import_module("torch").set_num_threads(max(1, threads // len(networks)))


def _is_torch_here(stage: Stage) -> bool:
    return stage.info.runtime.startswith("torch") and not isinstance(stage, RemoteStage)


def _batcher(stage: Stage, threads: int, limits: Limits) -> Batcher:
    make = partial(Batcher, stage, max_queued_windows=limits.max_queued_windows, timeout_s=limits.stage_timeout_s)
    if isinstance(stage, RemoteStage):  # it scores in its own process: here a thread only waits for it
        return make(threads=REMOTE_CALLS, max_tokens_per_batch=stage.batch_tokens)
    return make(threads=1 if _is_torch_here(stage) else threads)  # torch runs one batch on all threads


def _check_labels(stages: Mapping[str, Stage]) -> None:
    """Refuses labels for which an answer has no place."""
    for name, stage in stages.items():
        unknown = set(stage.info.labels) - known_labels(stage.info.taxonomy)
        if unknown:
            raise ModelError(f"{name}: {stage.info.name} has unknown labels: {', '.join(sorted(unknown))}")
