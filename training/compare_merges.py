"""Compares the merge rules in one table, each in both modes, on rows that neither stage nor threshold was fitted on.

    python -m training.compare_merges --data DIR --stage1 tinysafe --stage2 hazard [--scores FILE] [--json]

The held-out rows of ``training.fit_policy`` are halved. What a rule needs (the band, stage 1's threshold, that of the
merged score, the stacker's weights) is fitted on one half as the default policy's is and measured on the other, and
the other way round. In the loose mode only UNSAFE counts as flagged; in the strict one what is CONTROVERSIAL by its
score counts, too. F1 of chat prompts is at the prevalence of traffic, as in the fit. Area under the precision-recall
curve: of the rule's score where stage 2 is asked of every row.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.evaluate.metrics import ranking_metrics
from cascade.merging.stages import RULES, merge
from cascade.policy import Policy, default_policy
from cascade.policy.model import Merge
from cascade.tune.sample import Sample, logit
from training.fit_policy import fit, operating_point
from training.held_out import HeldOut, held_out, score, unbound
from training.prevalence import f1

Array = NDArray[np.float64]
Rows = NDArray[np.int_]
ALONE = ("stage1 alone", "stage2 alone")


def compare(held: HeldOut, scores: Sample, policy: Policy, budget: float) -> dict[str, dict[str, dict[str, float]]]:
    """For each rule, and for each stage alone, figures by kind of traffic; ``escalated`` is of the kind, too."""
    names = (*ALONE, *RULES)
    found = {name: {mode: np.zeros(len(held.rows), bool) for mode in ("loose", "strict")} for name in names}
    ranks = {name: np.zeros(len(held.rows)) for name in names}
    escalated = np.zeros(len(held.rows), bool)
    for part, fitted, measured in halves(held):
        seen = scores.at(fitted)
        base = fit(part, seen, policy, budget)
        reaches = scores.stage1 >= base.route.low
        escalated[measured] = reaches[measured]
        for name in names:
            p = _scores(name, scores, base.merge)
            counts = p if name in ALONE else p * reaches
            threshold = operating_point(counts[fitted], part).threshold
            # A stage alone has no stage 2 to disagree with: between safe and unsafe lies its score alone.
            sure = (scores.stage1 >= base.route.high) & (name not in ALONE)
            found[name]["loose"][measured] = (counts >= threshold)[measured]
            found[name]["strict"][measured] = ((counts >= 0.8 * threshold) | sure)[measured]
            ranks[name][measured] = p[measured]
    return {
        name: {
            kind: {
                "loose_f1": f1(found[name]["loose"][rows], held.unsafe[rows], kind),
                "strict_f1": f1(found[name]["strict"][rows], held.unsafe[rows], kind),
                "auprc": auprc(ranks[name][rows], held.unsafe[rows]),
                "escalated": {ALONE[0]: 0.0, ALONE[1]: 1.0}.get(name, float(escalated[rows].mean())),
            }
            for kind, rows in held.kinds().items()
        }
        for name in names
    }


def _scores(name: str, scores: Sample, fitted: Merge) -> Array:
    """The probability that a rule, or a stage alone, gives each row."""
    if name in ALONE:
        return scores.stage1 if name == ALONE[0] else scores.stage2
    policy = fitted.model_copy(update={"rule": name})
    rows = zip(logit(scores.stage1), logit(scores.stage2), scores.unread.tolist(), strict=True)
    return np.array([merge(float(z1), float(z2), policy, unread=unread) for z1, z2, unread in rows])


def auprc(ranks: Array, unsafe: Array) -> float:
    """Area under the precision-recall curve against targets in {0, 1}."""
    metric = ranking_metrics(unsafe == 1, ranks)["auprc"]
    return float(metric(np.ones((1, len(ranks))))[0])


def halves(held: HeldOut) -> Iterator[tuple[HeldOut, Rows, Rows]]:
    """Each half to fit on, with its rows' numbers and those of the other half, to measure on."""
    even, odd = (np.arange(start, len(held.rows), 2) for start in (0, 1))
    for fitted, measured in ((even, odd), (odd, even)):
        rows, sources = [held.rows[row] for row in fitted], [held.sources[row] for row in fitted]
        yield HeldOut(rows, sources, held.unsafe[fitted], held.hazards[fitted]), fitted, measured


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The figures for people, as a table in Markdown."""
    kinds = list(next(iter(found.values())))
    columns = [(kind, figure) for kind in kinds for figure in ("loose_f1", "strict_f1", "auprc", "escalated")]
    lines = ["| rule | " + " | ".join(f"{kind}: {figure.replace('_', ' ')}" for kind, figure in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for name, by_kind in found.items():
        figures = " | ".join(f"{by_kind[kind][figure]:.3f}" for kind, figure in columns)
        lines.append(f"| {name.replace('_', ' ')} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Scores, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--stage1", default="tinysafe", help="an embedded name or a model folder")
    parser.add_argument("--stage2", default="hazard", help="an embedded name or a model folder")
    parser.add_argument("--budget", type=float, default=0.25, help="share of chat prompts that may be escalated")
    parser.add_argument("--scores", type=Path, help="file that keeps the scores, as for training.fit_policy")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    held, base = held_out(arguments.data), unbound(default_policy())
    scored = score(held, arguments.stage1, arguments.stage2, base, arguments.scores)
    found: dict[str, Any] = compare(held, scored.sample(base), base, arguments.budget)
    print(json.dumps({"models": scored.names, "rules": found}, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    main()
