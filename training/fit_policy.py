"""Fits the default policy's numbers on rows that neither stage trained on.

    python -m training.fit_policy --data DIR --stage1 tinysafe --stage2 hazard --out cascade/policy/default.toml
    python -m training.fit_policy --data DIR --traffic comments --out cascade/policy/comments.toml
    python -m training.fit_policy --data DIR --stage2 runs/judge/model --recipe judge --rows-a-source 150 --out OUT

Every held-out row of all recipes (validation and calibration groups) goes through the pipeline itself, so that views,
windows and calibration are those of a request. Then, in this order: stage 1's threshold by the geometric mean of F1
over the kinds of source, as TinySafe v2 chose its own, with chat prompts at the prevalence of traffic and counted
thrice, the median over bootstrap resamples; ``route.low`` so that the share of chat prompts that is escalated stays
within the budget; the stacker's weights and the merged threshold by the same mean, among those with which the cascade
judges chat prompts at least as well as stage 1 alone, so that escalating never costs there; then which hazards block by
themselves (:mod:`training.fit_blocking`); and last how early those escalate that are never left to one stage. What chat
prompts look like to the fitted policy is kept as its ``[reference]``, by which a server tells that its traffic drifts.
``--traffic comments`` does all of it for readers' comments in place of prompts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.policy import Policy, default_policy, parse
from cascade.policy.reference import Reference, reference
from cascade.tune.outcomes import NEVER, Rules, escalated, outcomes
from cascade.tune.sample import Sample, logit
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS
from training.fit_blocking import fit_blocking
from training.held_out import RECIPES, ROWS_A_SOURCE, HeldOut, held_out, score, unbound
from training.prevalence import draws, f1, f1_of_draws

Array = NDArray[np.float64]
GRID = np.round(np.arange(0.05, 0.985, 0.005), 3)
RESAMPLES = 200
WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)  # of stage 2 in the merge
# What one stage alone may never clear: a miss harms a child, or very many people.
NEVER_ALONE = ("child_exploitation", "indiscriminate_weapons")
SEEN = 0.98  # of the texts that carry such a hazard, the share that is to reach stage 2
AT_MOST = 0.5  # of the hazard's own threshold: what escalates it lies lower, always
FEW = 10  # carriers, below which no share of them is told


@dataclass(frozen=True)
class Traffic:
    """What a policy is fitted to: a kind of traffic, its source, and what each kind has to say in the mean."""

    kind: str
    source: str
    say: Mapping[str, float]


TRAFFIC = {
    # Chat is the one with as few unsafe prompts as traffic has, the others are half unsafe or more, so that among
    # equals they would pull the threshold down to where most alarms in traffic are false.
    "chat": Traffic("chat", "toxicchat", {"chat": 3.0, "guard": 1.0, "prompts": 1.0}),
    "comments": Traffic("comments", "comments", {"comments": 1.0}),
}
CHAT = TRAFFIC["chat"]


def merged(scores: Sample, w2: float) -> Array:
    """The stacker's probability with weights 1 - w2 and w2: both logits are calibrated, so that none needs a scale."""
    both: Array = 1 / (1 + np.exp(-((1 - w2) * logit(scores.stage1) + w2 * logit(scores.stage2))))
    return np.where(scores.unread, np.maximum(both, scores.stage2), both)  # as cascade.merging.stages.merge has it


@dataclass(frozen=True)
class Operating:
    """A threshold with its F1 on the traffic that it is for and the geometric mean of F1 over the kinds."""

    threshold: float
    traffic: float
    mean: float


def operating_point(score: Array, held: HeldOut, at_least: float = 0.0, traffic: Traffic = CHAT) -> Operating:
    """The threshold with the best mean among those with at least this F1 on the traffic, else with the best of it.

    A peak of one row is luck: the curves are smoothed over neighbouring thresholds, and what is taken is the median of
    the best thresholds of bootstrap resamples, or what is nearest to it among those that the rows themselves allow.
    """
    rng, curves = np.random.default_rng(0), dict[str, Array]()
    for kind, rows in held.kinds().items():
        if kind in traffic.say:
            counts = draws(rows.size, RESAMPLES, rng)
            curves[kind] = f1_of_draws(score[rows, None] >= GRID, held.unsafe[rows], counts, kind)
    logs = np.log(np.maximum(list(curves.values()), 1e-6))
    mean = _smooth(np.exp(np.average(logs, axis=0, weights=[traffic.say[kind] for kind in curves])))
    own = _smooth(curves[traffic.kind])
    allowed = own >= np.minimum(at_least, own.max(1, keepdims=True)) - 1e-9
    median = np.median(np.where(allowed, mean, -1.0)[1:].argmax(1))
    offered = np.flatnonzero(allowed[0])
    best = int(offered[np.abs(offered - median).argmin()])
    return Operating(float(GRID[best]), float(own[0, best]), float(mean[0, best]))


def _smooth(curves: Array, over: int = 7) -> Array:
    """Each row's running mean over so many neighbours."""
    padded = np.pad(curves, [(0, 0), (over // 2, over // 2)], mode="edge")
    means: Array = np.lib.stride_tricks.sliding_window_view(padded, over, axis=1).mean(2)
    return means


def fit(held: HeldOut, scores: Sample, policy: Policy, budget: float, traffic: Traffic = CHAT) -> Policy:
    """The policy with its thresholds, band, stacker and hazard thresholds fitted."""
    sources, known = np.array(held.sources), ~np.isnan(held.unsafe)
    alone = operating_point(scores.stage1, held, traffic=traffic)
    threshold1 = alone.threshold
    low = min(float(np.quantile(scores.stage1[sources == traffic.source], 1 - budget)), threshold1)
    reaches = scores.stage1 >= low
    points = {w2: operating_point(merged(scores, w2) * reaches, held, alone.traffic, traffic) for w2 in WEIGHTS}
    # First the weights that keep what stage 1 has on the traffic, of those the one with the best mean.
    w2 = max(points, key=lambda w: (round(min(points[w].traffic, alone.traffic), 3), points[w].mean))
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
    known = ~np.isnan(cells) & (score >= 0)
    if (cells[known] == 1).sum() < 10:
        return 0.5
    score, cells = score[known], cells[known]
    best, found = 0.0, 0.5
    for threshold in np.arange(0.05, 0.96, 0.01):
        value = f1(score >= threshold, cells)
        if value > best:
            best, found = value, float(threshold)
    return round(found, 3)


@dataclass(frozen=True)
class Careful:
    """Where a hazard that is never left to one stage escalates, and why there.

    ``without`` is the share of the carriers that reaches stage 2 for other reasons, ``seen`` with this one, both NaN
    where there are too few; ``costs`` is the share of the traffic that it escalates beyond all other reasons.
    """

    at: float
    reason: str
    carriers: int
    without: float
    seen: float
    costs: float


def careful(policy: Policy, held: HeldOut, scores: Sample, slug: str, share: float, traffic: Traffic = CHAT) -> Careful:
    """Finds the highest ``escalate_at`` at which nearly all carriers of a hazard reach stage 2.

    It costs at most ``share`` of the traffic; where that is too little for the goal, all of it is spent. It never
    lies above half of the hazard's own threshold.
    """
    column = HAZARD_INDEX[slug]
    rules = Rules.of(policy)
    passed = ~escalated(scores, replace(rules, escalate_at=np.full(len(HAZARD_SLUGS), NEVER), audit_rate=0.0))
    near, carries = scores.near[:, column], held.hazards[:, column] == 1
    everyday = np.array(held.sources) == traffic.source

    def costs(at: float) -> float:
        return float((passed & (near >= at))[everyday].mean())

    def seen(at: float) -> float:
        return float((~passed | (near >= at))[carries].mean()) if carries.sum() >= FEW else float("nan")

    highest = AT_MOST * policy.hazards[slug].threshold
    grid = np.unique(np.append(np.floor(np.clip(near, 0.0, highest) * 1e4) / 1e4, round(highest, 4)))[::-1]
    affordable = [float(at) for at in grid if costs(at) <= share and at > 0] or [round(highest, 4)]
    enough = [at for at in affordable if seen(at) >= SEEN]
    at, reason = (enough[0], f"sees {SEEN:.0%}") if enough else (affordable[-1], f"spends {share:.1%}")
    return Careful(at, reason, int(carries.sum()), seen(NEVER), seen(at), costs(at))


def fit_sensitive(
    policy: Policy, held: HeldOut, scores: Sample, share: float = 0.01, traffic: Traffic = CHAT
) -> tuple[Policy, dict[str, Careful]]:
    """The policy with an ``escalate_at`` of each hazard that is never left to one stage, and the reasons for it."""
    found = {slug: careful(policy, held, scores, slug, share, traffic) for slug in NEVER_ALONE}
    rules = {
        slug: rule.model_copy(update={"escalate_at": found[slug].at if slug in found else None})
        for slug, rule in policy.hazards.items()
    }
    return policy.model_copy(update={"hazards": rules}), found


def of_traffic(held: HeldOut, scores: Sample, policy: Policy, traffic: Traffic = CHAT) -> Reference:
    """What a server compares its traffic with: the held-out rows of that kind, under the policy."""
    rows = held.kinds()[traffic.kind]
    escalates = escalated(scores, replace(Rules.of(policy), audit_rate=0.0))
    return reference(scores.stage1[rows], escalates[rows])


def report(held: HeldOut, scores: Sample, policy: Policy) -> Mapping[str, object]:
    """What the fitted numbers do on the rows that they were fitted on, by kind of source; nothing is audited."""
    done = outcomes(scores, replace(Rules.of(policy), audit_rate=0.0))
    first = scores.stage1 >= policy.stage1.unsafe_threshold
    second = scores.stage2 >= 0.5
    found: dict[str, object] = {"rows": len(held.rows)}
    for name, rows in held.kinds().items():
        targets = held.unsafe[rows]
        found[name] = {
            "rows": len(rows),
            "stage1_f1": round(f1(first[rows], targets, name), 4),
            "stage2_f1_at_0.5": round(f1(second[rows], targets, name), 4),
            "cascade_f1": round(f1(done.unsafe[rows], targets, name), 4),
            "escalated": round(float(done.escalated[rows].mean()), 4),
        }
    return found


def main() -> None:
    """Fits and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--stage1", default="tinysafe", help="an embedded name or a model folder")
    parser.add_argument("--stage2", default="hazard", help="an embedded name or a model folder")
    parser.add_argument(
        "--recipe", action="append", default=[], help="what trained them, if not the embedded ones; may be repeated"
    )
    parser.add_argument(
        "--rows-a-source", type=int, default=ROWS_A_SOURCE, help="at most, but for real prompts; for a slow stage 2"
    )
    parser.add_argument("--budget", type=float, default=0.18, help="share of the traffic that may be escalated")
    parser.add_argument("--traffic", choices=TRAFFIC, default="chat", help="what the policy is for")
    parser.add_argument("--scores", type=Path, help="file that keeps the scores, for training.fit_delegation too")
    parser.add_argument("--out", type=Path, required=True, help="policy file to write")
    arguments = parser.parse_args()
    held = held_out(arguments.data, (*RECIPES, *arguments.recipe), arguments.rows_a_source)
    traffic = TRAFFIC[arguments.traffic]
    base = unbound(default_policy())
    if traffic is not CHAT:
        base = base.model_copy(update={"name": traffic.kind})
    scored = score(held, arguments.stage1, arguments.stage2, base, arguments.scores)
    scores = scored.sample(base)
    fitted = fit(held, scores, base, arguments.budget, traffic)
    fitted = fit_blocking(fitted, held, scored.sample(fitted))
    fitted, reasons = fit_sensitive(fitted, held, scores, traffic=traffic)
    fitted = fitted.model_copy(update={"reference": of_traffic(held, scores, fitted, traffic)})
    lines = [f"# Fitted by training.fit_policy on {scored.names}."]
    lines += [
        f"# hazards.{slug}.escalate_at {why.reason}: of {why.carriers} texts that carry it {why.seen:.1%} reach stage "
        f"2, {why.without:.1%} without it; it escalates {why.costs:.2%} of {traffic.kind}."
        for slug, why in reasons.items()
    ]
    arguments.out.write_text("\n".join(lines) + f"\n{parse(fitted.toml).toml}", encoding="utf-8")
    print(json.dumps(report(held, scored.sample(fitted), fitted), indent=1))


if __name__ == "__main__":
    main()
