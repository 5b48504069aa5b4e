"""A folder of sets and a pipeline -> the whole report: what was measured, on what, by what, and when."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cascade.errors import UnsupportedError
from cascade.evaluate.categories import report_categories
from cascade.evaluate.contamination import Contamination
from cascade.evaluate.costs import Meter, price_systems
from cascade.evaluate.metrics import RESAMPLES
from cascade.evaluate.report import report_set
from cascade.evaluate.rows import LabelledSet, Row
from cascade.evaluate.scoring import Scores, evaluation_pipeline, score_rows
from cascade.pipeline import Pipeline
from cascade.policy import fingerprint
from stages.encoder import cpu_flags

PACKAGES = ("safety-cascade", "onnxruntime", "tokenizers", "numpy")


async def evaluate(
    sets: Sequence[LabelledSet],
    pipeline: Pipeline,
    *,
    command: str,
    limit: int | None,
    seed: int,
    in_flight: int,
    resamples: int = RESAMPLES,
    contamination: Contamination | None = None,
    cpu_hour_price: float | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> dict[str, Any]:
    """Scores and measures sets.

    Args:
        sets: what to measure on.
        pipeline: what to measure, under its default policy.
        command: how this run was asked for, for the report.
        limit: how many rows of each set were read, for the report.
        seed: of the bootstrap.
        in_flight: rows that are scored at once.
        resamples: of the bootstrap.
        contamination: what the sets share with training sets, if that was looked for.
        cpu_hour_price: of one CPU, in any currency.
        on_row: called after each row.

    Raises:
        EvaluationError: a row could not be judged.
        UnsupportedError: the pipeline has no stage 2.
    """
    if "stage2" not in pipeline.stages:
        raise UnsupportedError("an evaluation reports both stages and the cascade: it needs a stage 2")
    policy = pipeline.policies.get()
    checker = evaluation_pipeline(pipeline)
    meter, reports, parts = Meter(pipeline), [], []
    for labelled in sets:
        scores = await score_rows(labelled.rows, checker, in_flight=in_flight, on_row=on_row)
        costs = meter.read(len(labelled.rows))
        report = report_set(labelled, scores, policy, seed=seed, resamples=resamples)
        for cohort in report["cohorts"]:
            if cohort["budgets"] is not None:
                price_systems(cohort["budgets"], costs, cpu_hour_price)
        reports.append(report | {"cpu_seconds_per_1000": costs})
        parts.append(scores)
        meter.restart()
    stages = {name: batcher.stage.info for name, batcher in pipeline.stages.items()}
    return {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_model(),
        "versions": {"python": platform.python_version()} | versions(),
        "models": [
            {
                "stage": stage,
                "name": info.name,
                "kind": info.kind,
                "revision": info.revision,
                "runtime": info.runtime,
                "fingerprint": fingerprint(info.files),
                "files": dict(info.files),
            }
            for stage, info in stages.items()
        ],
        "policy": {"name": policy.name, "revision": policy.revision},
        "thresholds": {"stage1": policy.stage1.unsafe_threshold, "stage2": policy.stage2.unsafe_threshold},
        "seed": seed,
        "resamples": resamples,
        "limit": limit,
        "in_flight": in_flight,
        "cpu_hour_price": cpu_hour_price,
        "contamination": contamination and contamination.report(),
        "sets": reports,
        "categories": report_categories(
            [row for labelled in sets for row in labelled.rows], Scores.joined(parts), seed=seed, resamples=resamples
        ),
    }


def cpu_model() -> str:
    """The processor's name, and those of its instruction sets on which int8 scores may depend."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name} ({cpu_flags()})"


def versions() -> dict[str, str]:
    """Versions of the packages that the scores may depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
