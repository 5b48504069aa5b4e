"""What each stage 2 adds to the same stage 1 at several shares of escalation, in one table.

    python -m training.compare_stage2 --data DIR --stage2 hazard --stage2 judge=MODEL [--recipe judge] [--json]

The rows are those that no recipe of these models trained on. They are halved: the band, both thresholds and the weight
of stage 2 are fitted on one half as the default policy's are, and measured on the other, and the other way round. A
budget is the share of chat prompts that is escalated. "always" asks stage 2 about everything, at its own threshold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cascade.policy import Policy, default_policy
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.sample import Sample
from training.compare_merges import auprc, halves
from training.fit_policy import fit, merged, operating_point
from training.held_out import RECIPES, HeldOut, held_out, score, unbound
from training.prevalence import f1

BUDGETS = (0.1, 0.2, 0.3)
ALONE, ALWAYS = "stage 1 alone", "always"
Figures = dict[str, dict[str, float]]


def compare(held: HeldOut, scores: Sample, policy: Policy) -> dict[str, Figures]:
    """For stage 1 alone, for each budget, and for stage 2 alone: F1, AUPRC and the share escalated, by kind."""
    systems = [ALONE, *(f"{budget:.0%}" for budget in BUDGETS), ALWAYS]
    flagged = {name: np.zeros(len(held.rows), bool) for name in systems}
    asked = {name: np.full(len(held.rows), name == ALWAYS) for name in systems}
    ranks = {name: np.zeros(len(held.rows)) for name in systems}
    for part, fitted, measured in halves(held):
        seen, rest = scores.at(fitted), scores.at(measured)
        for name, own, other in ((ALONE, seen.stage1, rest.stage1), (ALWAYS, seen.stage2, rest.stage2)):
            flagged[name][measured] = other >= operating_point(own, part).threshold
            ranks[name][measured] = other
        for budget, name in zip(BUDGETS, systems[1:-1], strict=True):
            found = fit(part, seen, policy, budget)
            both = merged(rest, found.merge.stacker.w2)
            done = outcomes(replace(rest, merged=both), replace(Rules.of(found), audit_rate=0.0))
            flagged[name][measured], asked[name][measured] = done.unsafe, done.escalated
            ranks[name][measured] = np.where(done.escalated, both, np.minimum(rest.stage1, found.route.low))
    return {
        name: {
            kind: {
                "f1": f1(flagged[name][rows], held.unsafe[rows], kind),
                "auprc": auprc(ranks[name][rows], held.unsafe[rows]),
                "escalated": float(asked[name][rows].mean()),
            }
            for kind, rows in held.kinds().items()
        }
        for name in systems
    }


def table(found: Mapping[str, Mapping[str, Figures]]) -> str:
    """The figures for people, as a table in Markdown: a row for each stage 2 and share."""
    kinds = list(next(iter(next(iter(found.values())).values())))
    columns = [(kind, figure) for kind in kinds for figure in ("f1", "auprc", "escalated")]
    lines = ["| stage 2 | escalated | " + " | ".join(f"{kind}: {figure}" for kind, figure in columns) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(columns))
    for label, systems in found.items():
        for system, figures in systems.items():
            cells = " | ".join(f"{figures[kind][figure]:.3f}" for kind, figure in columns)
            lines.append(f"| {label} | {system} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Scores, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--stage1", default="tinysafe", help="an embedded name or a model folder")
    parser.add_argument(
        "--stage2", action="append", required=True, metavar="[LABEL=]MODEL", help="one of them; may be given again"
    )
    parser.add_argument(
        "--recipe", action="append", default=[], help="what trained them, if not the embedded ones; may be repeated"
    )
    parser.add_argument("--scores", type=Path, help="folder that keeps the scores, a file for each stage 2")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    held = held_out(arguments.data, (*RECIPES, *arguments.recipe))
    policy, found = unbound(default_policy()), {}
    for spec in arguments.stage2:
        label, _, model = spec.rpartition("=")
        kept = arguments.scores and arguments.scores / f"{label or model}.scores"
        scored = score(held, arguments.stage1, model, policy, kept)
        found[label or scored.models["stage2"].name] = compare(held, scored.sample(policy), policy)
    print(json.dumps(found, indent=1) if arguments.json else table(found))


if __name__ == "__main__":
    main()
