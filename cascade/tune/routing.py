"""What a router is worth: *verdicts with and without stage 2, an order* -> F1 over cost, and how well it is chosen.

A router's order is that in which it would escalate more and more texts; the oracle knows which verdicts stage 2 mends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade.errors import PolicyError
from cascade.policy.model import Policy
from cascade.routing.logits import logit
from cascade.routing.margin import UNSAFE
from cascade.tune.outcomes import NEVER, Rules, escalated
from cascade.tune.sample import Bools, Floats, Sample, sample
from cascade.tune.scores import ScoredRow

Kind = Literal["band", "margin", "delegation"]
Order = NDArray[np.int_]
WIDTHS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # logits; 0 is a label without a margin
_PASSES = 2


@dataclass(frozen=True)
class Stakes:
    """Labelled rows: whether stage 1 alone and both stages judge each one unsafe, and whether it is.

    ``forced`` rows are escalated whatever a router thinks of them: triggers, sensitive hazards, flags.
    """

    alone: Bools
    both: Bools
    unsafe: Bools
    forced: Bools

    def __len__(self) -> int:
        return len(self.unsafe)

    @property
    def gain(self) -> NDArray[np.int_]:
        """1 where stage 2 mends the verdict, -1 where it spoils it, else 0."""
        gain: NDArray[np.int_] = (self.both == self.unsafe).astype(int) - (self.alone == self.unsafe).astype(int)
        return gain

    def at(self, rows: NDArray[np.int_]) -> Stakes:
        """Some of the rows."""
        return Stakes(self.alone[rows], self.both[rows], self.unsafe[rows], self.forced[rows])

    def order(self, worth: Floats) -> Order:
        """The rows in the order in which they are escalated: those that are forced to, then by falling worth."""
        return np.lexsort((-worth, ~self.forced))

    def oracle(self) -> Floats:
        """The worth that one would give who knows the answers; F1 gains more by a hit than by one alarm less."""
        return self.gain + 0.25 * self.gain * self.unsafe

    def f1_over(self, worth: Floats) -> Floats:
        """F1 after each further row is escalated, none to all: of length rows + 1."""
        order = self.order(worth)
        change = self.both[order].astype(int) - self.alone[order].astype(int)
        unsafe = self.unsafe[order]
        hits = (self.alone & self.unsafe).sum() + np.concatenate([[0], np.cumsum(change * unsafe)])
        alarms = (self.alone & ~self.unsafe).sum() + np.concatenate([[0], np.cumsum(change * ~unsafe)])
        found: Floats = 2 * hits / np.maximum(1, hits + alarms + unsafe.sum())
        return found

    def random_f1(self) -> Floats:
        """The same where chance chooses among what is not forced: F1 of the expected counts."""
        first = int(self.forced.sum())
        lifted = np.maximum(np.arange(len(self) + 1) - first, 0) / max(1, len(self) - first)
        hits, alarms = (
            (self.alone & part).sum()
            + self._forced_change(part, first)
            + lifted * (self._change(part & ~self.forced)).sum()
            for part in (self.unsafe, ~self.unsafe)
        )
        found: Floats = 2 * hits / np.maximum(1, hits + alarms + self.unsafe.sum())
        return found

    def _change(self, part: Bools) -> NDArray[np.int_]:
        change: NDArray[np.int_] = (self.both.astype(int) - self.alone.astype(int)) * part
        return change

    def _forced_change(self, part: Bools, first: int) -> Floats:
        steps = np.minimum(np.arange(len(self) + 1), first) / max(1, first)
        change: Floats = steps * self._change(part & self.forced).sum()
        return change

    def routing_f1_over(self, worth: Floats) -> Floats:
        """How well the rows that are not forced are chosen: F1 of "escalated" against "stage 2 mends it"."""
        order = self.order(worth)
        free, mends = ~self.forced[order], (self.gain > 0)[order] & ~self.forced[order]
        chosen, hits = (np.concatenate([[0], np.cumsum(part)]) for part in (free, mends))
        found: Floats = 2 * hits / np.maximum(1, chosen + mends.sum())
        return found


def with_kind(policy: Policy, kind: Kind) -> Policy:
    """The policy with another kind of router; margins are still to be fitted.

    Raises:
        PolicyError: "delegation", but the policy has no network.
    """
    if kind == "delegation" and policy.route.delegation is None:
        raise PolicyError(["route.kind: this policy has no network; `python -m training.fit_delegation` fits one"])
    changes: dict[str, object] = {"kind": kind}
    if kind != "margin":
        changes["margins"] = {}
    if kind != "delegation":
        changes["delegation"] = None
    if kind == "band":
        changes["escalate_flagged"] = True
    route = policy.route.model_copy(update=changes)
    return policy.model_copy(update={"route": route})


def closeness(logits: Mapping[str, Floats], boundaries: Mapping[str, float], widths: Mapping[str, float]) -> Floats:
    """:class:`~cascade.routing.margin.Margins` over arrays: ``logits`` by label, each with its boundary."""
    distances = [np.abs(logits[label] - boundaries.get(label, 0.0)) / width for label, width in widths.items() if width]
    found: Floats = 1 / (1 + np.min(distances, axis=0))
    return found


def label_logits(rows: Sequence[ScoredRow]) -> dict[str, Floats]:
    """Logits of stage 1 by label, of the labels that every row has a score of; :data:`UNSAFE` is the first."""
    shared = set.intersection(*(set(row.stage1_labels) for row in rows))
    names = [name for name in rows[0].stage1_labels if name in shared]
    found = {UNSAFE: np.array([logit(row.stage1) for row in rows])}
    return found | {name: np.array([logit(row.stage1_labels[name]) for row in rows]) for name in names}


def stakes_of(rows: Sample, rules: Rules, threshold1: float, *, escalate_flagged: bool) -> Stakes:
    """What escalating each row changes under a policy's rules, of which only the worth is left open."""
    shut = replace(rules, low=NEVER, flags=NEVER, audit_rate=0.0)
    blocked = [
        ((scores >= rules.thresholds) & (scores >= 0) & rules.blocks).any(axis=1)
        for scores in (rows.of_stage1, rows.hazards)
    ]
    alone = rows.stage1 >= threshold1
    forced = escalated(rows, shut) | (alone if escalate_flagged else np.zeros(len(rows), dtype=bool))
    return Stakes(alone | blocked[0], (rows.merged >= rules.unsafe_threshold) | blocked[1], rows.unsafe, forced)


def margins_of(rows: Sequence[ScoredRow], policy: Policy) -> dict[str, float]:
    """Margins fitted on labelled rows; those without an honest label are left out."""
    known = [row for row in rows if row.unsafe is not None]
    found = sample(known, policy, seed=0)
    threshold1, flagged = policy.stage1.unsafe_threshold, policy.route.escalate_flagged
    stakes = stakes_of(found, Rules.of(policy), threshold1, escalate_flagged=flagged)
    return fit_margins(label_logits(known), [stakes], [np.arange(len(known))], policy)


def fit_margins(
    logits: Mapping[str, Floats], stakes: Sequence[Stakes], rows: Sequence[NDArray[np.int_]], policy: Policy
) -> dict[str, float]:
    """The widths with the best mean F1 while up to the policy's ``max_escalation`` is escalated, label by label.

    Args:
        logits: of stage 1, by label, as :func:`label_logits` gives them.
        stakes: what escalating changes, for each kind of traffic; each kind counts the same.
        rows: which rows of ``logits`` each kind is.
        policy: has stage 1's threshold and how much may be escalated.
    """
    boundaries = {UNSAFE: logit(policy.stage1.unsafe_threshold)}

    def quality(widths: Mapping[str, float]) -> float:
        worth = closeness(logits, boundaries, widths)
        curves = (part.f1_over(worth[chosen]) for part, chosen in zip(stakes, rows, strict=True))
        return float(np.mean([c[: 2 + int(policy.route.max_escalation * len(c))].mean() for c in curves]))

    widths = {label: 1.0 if label == UNSAFE else 0.0 for label in logits}
    for _ in range(_PASSES):
        for label in widths:
            # The scale of all widths together means nothing: that of the verdict's own margin stays 1.
            if label != UNSAFE:
                widths[label] = max(WIDTHS, key=lambda width: (quality(widths | {label: width}), -width))
    return {label: width for label, width in sorted(widths.items()) if width}
