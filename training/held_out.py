"""Rows that neither stage trained on, and what both stages say of them: what policies and routers are fitted on."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.build import build_pipeline
from cascade.evaluate.rows import Row
from cascade.pipeline import Pipeline
from cascade.policy import Policy
from cascade.policy.certificate import CertifiedModel
from cascade.policy.model import Models
from cascade.tune.routing import with_kind
from cascade.tune.run import certified_models
from cascade.tune.sample import Sample, sample
from cascade.tune.scores import ScoredRow
from cascade.tune.scoring import score_cached, score_rows
from stages.taxonomy import HAZARD_SLUGS
from training.data.groups import fingerprint as text_fingerprint
from training.data.mix import Example, Splits, build_splits
from training.recipe import load_recipe

Array = NDArray[np.float64]
# What trained the embedded models, and the run that stage 1 started from.
RECIPES = ("tinysafe-public", "tinysafe", "hazard")
ROWS_A_SOURCE = 700
REAL = ("toxicchat", "guard_prompts")  # few, and nearest to traffic: a smaller sample of the rest leaves them whole
# A false alarm on these sources and a miss on those are weighed together, as one kind of traffic.
KINDS = {
    "chat": ("toxicchat",),
    "guard": ("guard_prompts",),
    "prompts": ("harmful_prompts", "hard_negatives", "harmless", "hazards", "hazard_prompts"),
    "comments": ("comments",),
    "written": ("written_harmless", "written_hazards"),  # short, of all hazards, and harmless ones that sound like them
}


@dataclass(frozen=True)
class HeldOut:
    """Rows with their sources, binary targets and hazard cells [rows, 14] (NaN where unknown)."""

    rows: list[Row]
    sources: list[str]
    unsafe: Array
    hazards: Array

    def kinds(self) -> dict[str, NDArray[np.int_]]:
        """For each kind of traffic that there is, the numbers of its labelled rows."""
        known = ~np.isnan(self.unsafe)
        found = {name: np.flatnonzero(np.isin(self.sources, members) & known) for name, members in KINDS.items()}
        return {name: rows for name, rows in found.items() if rows.size}


@dataclass(frozen=True)
class Scored:
    """What both stages say of held-out rows, in their order, and which models they are."""

    rows: list[ScoredRow]
    models: Mapping[str, CertifiedModel]

    @property
    def names(self) -> str:
        """The models for people."""
        return " and ".join(f"{model.name}@{model.revision}" for model in self.models.values())

    def sample(self, policy: Policy) -> Sample:
        """Arrays under a policy; nothing is audited."""
        return sample(self.rows, policy, seed=0)


def unseen(splits: Sequence[Splits]) -> Iterator[tuple[str, Example]]:
    """What some split validates or calibrates on and none trains on, by fingerprint, split by split."""
    seen = {text_fingerprint(e.text) for split in splits for part in split.train.values() for e in part}
    for split in splits:
        for example in (*split.validation, *split.calibration):
            print_ = text_fingerprint(example.text)
            if print_ not in seen:
                yield print_, example


def held_out(data: Path, recipes: Sequence[str] = RECIPES, rows_a_source: int = ROWS_A_SOURCE) -> HeldOut:
    """Rows held out by every recipe: in no recipe's training part, whatever their case or spacing."""
    splits = [build_splits(data, load_recipe(name).data, load_recipe(name).system) for name in recipes]
    chosen = dict(unseen(splits))  # the last one's examples stay: the hazard recipe's have the hazard cells
    by_source: dict[str, list[Example]] = {}
    for example in chosen.values():
        by_source.setdefault(example.source, []).append(example)
    most = {source: ROWS_A_SOURCE if source in REAL else rows_a_source for source in by_source}
    kept = [e for source, found in by_source.items() for e in found[:: max(1, -(-len(found) // most[source]))]]
    unknown = (float("nan"),) * len(HAZARD_SLUGS)
    return HeldOut(
        [
            Row(str(i), e.text, None, None if np.isnan(e.unsafe) else e.unsafe == 1, (), e.lang)
            for i, e in enumerate(kept)
        ],
        [e.source for e in kept],
        np.array([e.unsafe for e in kept]),
        np.array([e.labels if len(e.labels) == len(HAZARD_SLUGS) else unknown for e in kept]),
    )


def unbound(policy: Policy) -> Policy:
    """The policy without what ties it to the models that it was fitted on; its router is a band."""
    free = {"models": Models(), "certificate": None, "reference": None}
    return with_kind(policy, "band").model_copy(update=free)


def score(held: HeldOut, stage1: str, stage2: str, policy: Policy, cache: Path | None = None) -> Scored:
    """Scores all rows through the pipeline itself, so that views, windows and calibration are those of a request.

    Args:
        held: the rows.
        stage1: an embedded name or a model folder; ``stage2`` too.
        stage2: must judge.
        policy: how windows are pooled; its thresholds change nothing here.
        cache: a file that keeps the scores: of the same rows and models they are read from there.

    Raises:
        EvaluationError: a row could not be judged by both stages.
        ModelError: a model cannot be used.
    """
    return asyncio.run(_score(held, build_pipeline(stage1_spec=stage1, stage2_spec=stage2, policies=[policy]), cache))


async def _score(held: HeldOut, pipeline: Pipeline, cache: Path | None) -> Scored:
    try:
        if cache is None:
            rows = await score_rows(held.rows, pipeline, in_flight=16)
        else:
            rows = await score_cached(held.rows, _digest(held), pipeline, cache, in_flight=16)
        return Scored(rows, certified_models(pipeline))
    finally:
        await pipeline.close()


def _digest(held: HeldOut) -> str:
    digest = hashlib.sha256()
    for row in held.rows:
        digest.update(f"{row.id}\0{row.unsafe}\0{row.text}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
