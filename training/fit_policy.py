"""Fits the default policy's numbers on rows that neither stage trained on.

    python -m training.fit_policy --data DIR --stage1 tinysafe --stage2 hazard --out cascade/policy/default.toml

Every held-out row of both recipes (validation and calibration groups) goes through the pipeline itself, so that views,
windows and calibration are those of a request. Then, in this order: stage 1's threshold by the geometric mean of F1
over the kinds of source, as TinySafe v2 chose its own; ``route.low`` so that the share of chat prompts that is
escalated stays within the budget; the stacker's weights and the merged threshold by the same mean, among those with
which the cascade judges chat prompts at least as well as stage 1 alone, so that escalating never costs there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.build import build_pipeline
from cascade.evaluate.rows import Row
from cascade.evaluate.scoring import Scores, evaluation_pipeline, score_rows
from cascade.policy import Policy
from stages.registry import load_stage
from stages.taxonomy import HAZARD_SLUGS, HAZARDS
from training.calibrate import stage_logits
from training.data.groups import fingerprint as text_fingerprint
from training.data.mix import Example, build_splits
from training.recipe import load_recipe

Array = NDArray[np.float64]
TRAFFIC = "toxicchat"  # the source whose escalation rate is bounded: real prompts to a chatbot
ROWS_A_SOURCE = 700
GRID = np.round(np.arange(0.05, 0.985, 0.005), 3)
WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)  # of stage 2 in the merge
# A false alarm on these sources and a miss on those are weighed together, as one kind of traffic.
KINDS = {
    "chat": ("toxicchat",),
    "guard": ("guard_prompts",),
    "prompts": ("harmful_prompts", "hard_negatives", "harmless", "hazards", "hazard_prompts"),
}


@dataclass(frozen=True)
class HeldOut:
    """Rows with their sources, binary targets and hazard cells [rows, 14] (NaN where unknown)."""

    rows: list[Row]
    sources: list[str]
    unsafe: Array
    hazards: Array


def held_out(data: Path, recipes: Sequence[str] = ("tinysafe", "hazard")) -> HeldOut:
    """Rows held out by every recipe: in no recipe's training part, whatever their case or spacing."""
    splits = [build_splits(data, load_recipe(name).data, load_recipe(name).system) for name in recipes]
    seen = {text_fingerprint(e.text) for s in splits for part in s.train.values() for e in part}
    chosen: dict[str, Example] = {}
    for split in splits:  # the last one, the hazard recipe, has the hazard cells
        for example in [*split.validation, *split.calibration]:
            print_ = text_fingerprint(example.text)
            if print_ not in seen:
                chosen[print_] = example
    by_source: dict[str, list[Example]] = {}
    for example in chosen.values():
        by_source.setdefault(example.source, []).append(example)
    kept = [e for members in by_source.values() for e in members[:: max(1, -(-len(members) // ROWS_A_SOURCE))]]
    unknown = (float("nan"),) * len(HAZARD_SLUGS)
    return HeldOut(
        [Row(str(i), e.text, None, None, (), e.lang) for i, e in enumerate(kept)],
        [e.source for e in kept],
        np.array([e.unsafe for e in kept]),
        np.array([e.labels if len(e.labels) == len(HAZARD_SLUGS) else unknown for e in kept]),
    )


def logit(p: Array) -> Array:
    """Log-odds, kept finite."""
    clipped = np.clip(p, 1e-9, 1 - 1e-9)
    return np.log(clipped / (1 - clipped))


def merged(scores: Scores, w2: float) -> Array:
    """The stacker's probability with weights 1 - w2 and w2: both logits are calibrated, so that none needs a scale."""
    return 1 / (1 + np.exp(-((1 - w2) * logit(scores.stage1) + w2 * logit(scores.stage2))))


def f1(predicted: NDArray[np.bool_], targets: Array) -> float:
    """F1 of predictions against targets in {0, 1}."""
    hits = float((predicted & (targets == 1)).sum())
    return 2 * hits / max(1.0, float(predicted.sum() + (targets == 1).sum()))


@dataclass(frozen=True)
class Operating:
    """A threshold with its F1 on chat prompts and the geometric mean of F1 over the kinds."""

    threshold: float
    chat: float
    mean: float


def operating_point(score: Array, held: HeldOut, at_least: float = 0.0) -> Operating:
    """The threshold with the best mean among those with at least this F1 on chat prompts, else with the best of it.

    Both curves are smoothed over neighbouring thresholds: a peak of one row is luck.
    """
    masks = _kinds(held)
    table = np.array([[f1((score >= t)[mask], held.unsafe[mask]) for mask in masks] for t in GRID])
    curves = [np.exp(np.log(np.maximum(table, 1e-6)).mean(1)), table[:, 0]]
    mean, chat = (np.convolve(np.pad(c, 3, mode="edge"), np.ones(7) / 7, mode="valid") for c in curves)
    allowed = chat >= min(at_least, chat.max()) - 1e-9
    best = int(np.flatnonzero(allowed)[mean[allowed].argmax()])
    return Operating(float(GRID[best]), float(chat[best]), float(mean[best]))


def _kinds(held: HeldOut) -> list[NDArray[np.bool_]]:
    known = ~np.isnan(held.unsafe)
    return [np.isin(held.sources, names) & known for names in KINDS.values()]


def fit(held: HeldOut, scores: Scores, policy: Policy, budget: float) -> Policy:
    """The policy with its thresholds, band, stacker and hazard thresholds fitted."""
    sources, known = np.array(held.sources), ~np.isnan(held.unsafe)
    alone = operating_point(scores.stage1, held)
    threshold1 = alone.threshold
    low = min(float(np.quantile(scores.stage1[sources == TRAFFIC], 1 - budget)), threshold1)
    escalated = scores.stage1 >= low
    points = {w2: operating_point(merged(scores, w2) * escalated, held, alone.chat) for w2 in WEIGHTS}
    # First the weights that keep what stage 1 has on chat prompts, of those the one with the best mean.
    w2 = max(points, key=lambda w: (round(min(points[w].chat, alone.chat), 3), points[w].mean))
    threshold2 = points[w2].threshold
    high = _sure(scores.stage1[known], held.unsafe[known], floor=max(threshold1, 0.9))
    hazards = {
        slug: policy.hazards[slug].model_copy(update={"threshold": _hazard_threshold(scores.hazards[:, i], cells)})
        for i, (slug, cells) in enumerate(zip(HAZARD_SLUGS, held.hazards.T, strict=True))
    }
    merge = policy.merge.model_copy(
        update={
            "stacker": policy.merge.stacker.model_copy(update={"w1": round(1 - w2, 4), "w2": w2, "bias": 0.0}),
            "controversial_threshold": round(0.8 * threshold2, 3),
        }
    )
    return policy.model_copy(
        update={
            "stage1": policy.stage1.model_copy(update={"unsafe_threshold": round(threshold1, 3)}),
            "stage2": policy.stage2.model_copy(update={"unsafe_threshold": round(threshold2, 3)}),
            "route": policy.route.model_copy(update={"low": round(low, 4), "high": round(high, 4)}),
            "merge": merge,
            "hazards": hazards,
        }
    )


def _sure(score: Array, targets: Array, floor: float, precision: float = 0.98) -> float:
    """The lowest score from which on stage 1 is right with this precision."""
    for threshold in np.arange(floor, 0.999, 0.002):
        above = targets[score >= threshold]
        if len(above) < 20 or above.mean() >= precision:
            return float(threshold)
    return 0.999


def _hazard_threshold(score: Array, cells: Array) -> float:
    """The threshold with the best F1 among known cells, with a precision of at least 0.5 where one can be had."""
    known = ~np.isnan(cells) & ~np.isnan(score)
    if (cells[known] == 1).sum() < 10:
        return 0.5
    score, cells = score[known], cells[known]
    best, found = 0.0, 0.5
    for threshold in np.arange(0.05, 0.96, 0.01):
        value = f1(score >= threshold, cells)
        if value > best:
            best, found = value, float(threshold)
    return round(found, 3)


def fit_sensitive(policy: Policy, stage1: str, held: HeldOut, share: float = 0.02) -> Policy:
    """The policy with each ``escalate_at`` raised until it alone would escalate at most ``share`` of the traffic."""
    stage = load_stage(stage1)
    texts = [row.text for row, source in zip(held.rows, held.sources, strict=True) if source == TRAFFIC]
    _, logits, _ = stage_logits(stage, texts)
    columns = {label: i for i, label in enumerate(stage.info.labels)}
    rules = dict(policy.hazards)
    for hazard in HAZARDS:
        rule = rules[hazard.slug]
        near = [columns[name] for name in hazard.tinysafe if name in columns]
        if rule.escalate_at is None or not near:
            continue
        p = np.max([[stage.calibration.labels[c](z) for z in logits[:, c]] for c in near], axis=0)
        at = min(rule.threshold, max(rule.escalate_at, float(np.quantile(p, 1 - share))))
        rules[hazard.slug] = rule.model_copy(update={"escalate_at": round(at, 3)})
    return policy.model_copy(update={"hazards": rules})


async def _score(held: HeldOut, stage1: str, stage2: str) -> tuple[Scores, Policy, str]:
    pipeline = build_pipeline(stage1_spec=stage1, stage2_spec=stage2)
    try:
        scores = await score_rows(held.rows, evaluation_pipeline(pipeline), in_flight=16)
        infos = [batcher.stage.info for batcher in pipeline.stages.values()]
        models = " and ".join(f"{info.name}@{info.revision}" for info in infos)
        return scores, pipeline.policies.get(), models
    finally:
        await pipeline.close()


def report(held: HeldOut, scores: Scores, policy: Policy) -> Mapping[str, object]:
    """What the fitted numbers do on the rows that they were fitted on, by kind of source."""
    escalated = scores.stage1 >= policy.route.low
    final = escalated & (merged(scores, policy.merge.stacker.w2) >= policy.stage2.unsafe_threshold)
    first = scores.stage1 >= policy.stage1.unsafe_threshold
    second = scores.stage2 >= 0.5
    found: dict[str, object] = {"rows": len(held.rows)}
    for name, members in KINDS.items():
        mask = np.isin(held.sources, members) & ~np.isnan(held.unsafe)
        targets = held.unsafe[mask]
        found[name] = {
            "rows": int(mask.sum()),
            "stage1_f1": round(f1(first[mask], targets), 4),
            "stage2_f1_at_0.5": round(f1(second[mask], targets), 4),
            "cascade_f1": round(f1(final[mask], targets), 4),
            "escalated": round(float(escalated[mask].mean()), 4),
        }
    return found


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--stage1", default="tinysafe", help="an embedded name or a model folder")
    parser.add_argument("--stage2", default="hazard", help="an embedded name or a model folder")
    parser.add_argument("--budget", type=float, default=0.25, help="share of chat prompts that may be escalated")
    parser.add_argument("--out", type=Path, required=True, help="policy file to write")
    arguments = parser.parse_args()
    held = held_out(arguments.data)
    scores, policy, models = asyncio.run(_score(held, arguments.stage1, arguments.stage2))
    fitted = fit_sensitive(fit(held, scores, policy, arguments.budget), arguments.stage1, held)
    arguments.out.write_text(f"# Fitted by training.fit_policy on {models}.\n{fitted.toml}", encoding="utf-8")
    print(json.dumps(report(held, scores, fitted), indent=1))


if __name__ == "__main__":
    main()
