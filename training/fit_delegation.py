"""Fits margin and delegation routers on held-out rows and compares them with the band, the oracle and chance.

    python -m training.fit_delegation --data DIR --policy cascade/policy/default.toml --out OUT [--scores FILE]

The policy gives the thresholds and the merge; its rows are those of ``training.fit_policy``. Routers are compared on
rows that they were not fitted on: five folds, near-copies in one. Then each is fitted on all rows, its bar chosen by
the mean F1 over the kinds of traffic, within the budget of chat prompts. Written are ``delegation.toml``,
``margin.toml``, ``routers.md``, ``routers.json`` and, with the curves, ``routers.html``. One of the policies is
certified by ``cascade tune --policy OUT/delegation.toml``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.policy import Policy, default_policy, load, parse
from cascade.policy.network import network
from cascade.routing.delegation import Delegation
from cascade.routing.logits import logit
from cascade.routing.margin import UNSAFE
from cascade.tune.outcomes import Rules
from cascade.tune.routing import Stakes, closeness, fit_margins, label_logits, stakes_of
from cascade.tune.sample import Floats
from training.data.groups import near_duplicate_groups
from training.data.rows import Row
from training.delegation import feature_matrix, feature_names, fit_network, targets, weights
from training.fit_policy import CHAT, fit_sensitive
from training.held_out import HeldOut, Scored, held_out, score, unbound
from training.routing_report import compare, html, markdown

Rows = NDArray[np.int_]
Fit = Callable[[Rows], Callable[[Rows], Floats]]
FOLDS = 5
DIGITS = 5  # of a weight in the policy


@dataclass(frozen=True)
class Task:
    """What routers are fitted on: all rows, which of them are of which kind of traffic, and what is at stake there."""

    policy: Policy
    scored: Scored
    kinds: Mapping[str, Rows]
    stakes: Stakes
    x: Floats
    outcomes: Floats
    names: tuple[str, ...]
    seed: int

    @classmethod
    def of(cls, held: HeldOut, scored: Scored, policy: Policy, *, escalate_flagged: bool, seed: int) -> Task:
        """The task under a policy's thresholds."""
        found, threshold1 = scored.sample(policy), policy.stage1.unsafe_threshold
        names = feature_names(scored.rows)
        return cls(
            policy=policy,
            scored=scored,
            kinds=held.kinds(),
            stakes=stakes_of(found, Rules.of(policy), threshold1, escalate_flagged=escalate_flagged),
            x=feature_matrix(scored.rows, names),
            outcomes=targets(found, threshold1, policy.stage2.unsafe_threshold),
            names=names,
            seed=seed,
        )

    @property
    def used(self) -> Rows:
        """All rows of any kind of traffic."""
        return np.concatenate(list(self.kinds.values()))

    def network(self, rows: Rows) -> Delegation:
        """The network fitted on some rows; each kind of traffic weighs the same."""
        weight = np.zeros(len(self.stakes))
        for members in self._parts(rows):
            weight[members] = weights(self.stakes.at(members))
        return fit_network(self.x, self.outcomes, weight, self.names, self.seed)

    def margins(self, rows: Rows) -> dict[str, float]:
        """The margins fitted on some rows."""
        parts = self._parts(rows)
        return fit_margins(label_logits(self.scored.rows), [self.stakes.at(part) for part in parts], parts, self.policy)

    def _parts(self, rows: Rows) -> list[Rows]:
        return [np.intersect1d(members, rows) for members in self.kinds.values()]

    def routers(self) -> dict[str, Fit]:
        """How each kind of router is fitted on some rows, and then judges others."""
        logits = label_logits(self.scored.rows)
        boundaries = {UNSAFE: logit(self.policy.stage1.unsafe_threshold)}

        def band(_: Rows) -> Callable[[Rows], Floats]:
            return lambda rows: logits[UNSAFE][rows]

        def margin(fitted_on: Rows) -> Callable[[Rows], Floats]:
            worth = closeness(logits, boundaries, self.margins(fitted_on))
            return lambda rows: worth[rows]

        def delegation(fitted_on: Rows) -> Callable[[Rows], Floats]:
            network = self.network(fitted_on)
            return lambda rows: network.worth(self.x[rows])

        return {"band": band, "margin": margin, "delegation": delegation}


def folds(held: HeldOut, count: int, seed: int) -> Rows:
    """For each row its fold; near-copies share one."""
    rows = [Row(str(i), "held", row.text, None, (), row.lang) for i, row in enumerate(held.rows)]
    groups = np.unique(near_duplicate_groups(rows), return_inverse=True)[1]
    drawn: Rows = np.random.default_rng(seed).integers(0, count, groups.max() + 1)[groups]
    return drawn


def out_of_fold(task: Task, fold: Rows) -> dict[str, Floats]:
    """What each kind of router thinks of every row, fitted without the row's fold."""
    used = task.used
    found = {name: np.zeros(len(task.stakes)) for name in task.routers()}
    for name, fit in task.routers().items():
        for number in np.unique(fold[used]):
            inside = used[fold[used] == number]
            found[name][inside] = fit(used[fold[used] != number])(inside)
    return found


def choose_bar(task: Task, worth: Floats, traffic: Rows, budget: float) -> float:
    """The worth from which on is escalated: the best mean F1 over the kinds of traffic, within the budget.

    ``worth`` is out of fold, so that the bar does not trust a router on rows that it knows. Where what is escalated
    anyhow spends the budget, the bar is 1.
    """
    affordable = float(np.quantile(np.where(task.stakes.forced, 1.0, worth)[traffic], 1 - budget))
    above = np.append(worth[worth >= affordable], affordable)
    grid = np.unique(np.quantile(above, np.linspace(0, 1, 100), method="nearest"))

    def quality(bar: float) -> float:
        found: list[float] = []
        for rows in task.kinds.values():
            part = task.stakes.at(rows)
            verdict = np.where(part.forced | (worth[rows] >= bar), part.both, part.alone)
            found.append(2 * (verdict & part.unsafe).sum() / max(1, verdict.sum() + part.unsafe.sum()))
        return float(np.mean(found))

    best: float = max(grid.tolist(), key=quality)
    return round(best, 6)


def margin_policy(task: Task, bar: float, *, escalate_flagged: bool) -> Policy:
    """The policy with a margin router that was fitted on all rows."""
    changes = {"kind": "margin", "margins": task.margins(task.used), "at": bar, "escalate_flagged": escalate_flagged}
    route = task.policy.route.model_copy(update=changes)
    return task.policy.model_copy(update={"name": "margin", "route": route})


def delegation_policy(task: Task, bar: float, *, escalate_flagged: bool) -> Policy:
    """The policy with a delegation router that was fitted on all rows."""
    fitted = task.network(task.used)
    numbers = ("mean", "scale", "hidden", "hidden_bias", "output", "output_bias")
    found = network(
        rows=len(task.used),
        features=list(fitted.features),
        **{name: np.round(getattr(fitted, name), DIGITS).tolist() for name in numbers},
        **task.scored.models,
    )
    changes = {"kind": "delegation", "delegation": found, "at": bar, "escalate_flagged": escalate_flagged}
    route = task.policy.route.model_copy(update=changes)
    return task.policy.model_copy(update={"name": "delegation", "route": route})


def with_careful_hazards(policy: Policy, held: HeldOut, scored: Scored) -> Policy:
    """The policy with the hazards that are never left to one stage, priced beyond what its own router escalates."""
    found, _ = fit_sensitive(policy, held, scored.sample(policy))
    return parse(found.toml)


def write(out: Path, policies: Sequence[Policy], found: Mapping[str, Any], heading: str) -> None:
    """Writes policies and figures."""
    out.mkdir(parents=True, exist_ok=True)
    for policy in policies:
        (out / f"{policy.name}.toml").write_text(f"# {heading}\n{policy.toml}", encoding="utf-8")
    (out / "routers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "routers.html").write_text(html(found, heading), encoding="utf-8")
    tables = "\n".join(markdown(title, part) for title, part in found.items())
    (out / "routers.md").write_text(f"# Routers\n\n{heading}\n\n{tables}", encoding="utf-8")


def fit_routers(
    held: HeldOut, scored: Scored, policy: Policy, budget: float, *, escalate_flagged: bool, seed: int = 0
) -> tuple[list[Policy], dict[str, Any]]:
    """The policies and the figures of both ways to treat what stage 1 flags.

    Hazards that are never left to one stage come last: under another router other texts reach stage 2 without them.
    """
    bare = {slug: rule.model_copy(update={"escalate_at": None}) for slug, rule in policy.hazards.items()}
    policy = policy.model_copy(update={"hazards": bare})
    fold = folds(held, FOLDS, seed)
    traffic = np.flatnonzero(np.array(held.sources) == CHAT.source)
    policies: list[Policy] = []
    found: dict[str, Any] = {}
    for flagged, title in ((True, "what stage 1 flags is escalated"), (False, "flags are left to the router")):
        task = Task.of(held, scored, policy, escalate_flagged=flagged, seed=seed)
        worths = out_of_fold(task, fold)
        stakes = {kind: task.stakes.at(rows) for kind, rows in task.kinds.items()}
        of_kinds = {kind: {name: worth[rows] for name, worth in worths.items()} for kind, rows in task.kinds.items()}
        found[title] = compare(stakes, of_kinds, budget)
        if flagged == escalate_flagged:
            bars = {name: choose_bar(task, worths[name], traffic, budget) for name in ("margin", "delegation")}
            made = (
                margin_policy(task, bars["margin"], escalate_flagged=flagged),
                delegation_policy(task, bars["delegation"], escalate_flagged=flagged),
            )
            policies = [with_careful_hazards(one, held, scored) for one in made]
    return policies, found


def main() -> None:
    """Fits, compares and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--stage1", default="tinysafe", help="an embedded name or a model folder")
    parser.add_argument("--stage2", default="hazard", help="an embedded name or a model folder")
    parser.add_argument("--policy", type=Path, help="policy with the thresholds; default: the built-in one")
    parser.add_argument("--budget", type=float, default=0.25, help="share of chat prompts that may be escalated")
    parser.add_argument("--leave-flags", action="store_true", help="do not escalate what stage 1 flags in any case")
    parser.add_argument("--scores", type=Path, help="file that keeps the scores; that of training.fit_policy will do")
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of the first weights")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    policy = unbound(load(arguments.policy) if arguments.policy else default_policy())
    held = held_out(arguments.data)
    scored = score(held, arguments.stage1, arguments.stage2, policy, arguments.scores)
    policies, found = fit_routers(
        held, scored, policy, arguments.budget, escalate_flagged=not arguments.leave_flags, seed=arguments.seed
    )
    write(arguments.out, policies, found, f"Fitted by training.fit_delegation on {scored.names}.")
    print((arguments.out / "routers.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
