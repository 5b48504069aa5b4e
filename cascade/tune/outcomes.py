"""What a policy does with scored rows: *sample, rules* -> who is escalated, who is judged unsafe, which hazards flag.

The same decisions as :mod:`cascade.routing.escalation` and :mod:`cascade.answer` take, over arrays; a test compares
them with the pipeline's own answers. The verdict UNSAFE alone counts as positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.policy.model import Policy
from cascade.policy.routers import bar_of
from cascade.tune.sample import Bools, Floats, Sample
from cascade.tune.wishes import Wish
from stages.taxonomy import HAZARD_INDEX

NEVER = 2.0  # a threshold that no probability reaches


@dataclass(frozen=True)
class Rules:
    """The numbers of a policy that decide what is escalated and what is unsafe; hazards in canonical order.

    Attributes:
        low: the worth from which on stage 2 is asked: ``route.low`` of a band, ``route.at`` of another kind.
        flags: stage 1's own threshold. A band's is chosen later, never below ``low``, so that it decides nothing here.
        escalate_flagged: what stage 1 flags goes on to stage 2; without it stage 1's verdict stands for what does not.
    """

    low: float
    unsafe_threshold: float
    thresholds: Floats
    escalate_at: Floats
    blocks: Bools
    audit_rate: float
    flags: float = NEVER
    escalate_flagged: bool = True

    @classmethod
    def of(cls, policy: Policy) -> Rules:
        """Those of a policy, which has a stage 2."""
        hazards = list(policy.hazards.values())
        return cls(
            low=bar_of(policy),
            unsafe_threshold=policy.stage2.unsafe_threshold,
            thresholds=np.array([rule.threshold for rule in hazards]),
            escalate_at=np.array([NEVER if rule.escalate_at is None else rule.escalate_at for rule in hazards]),
            blocks=np.array([rule.action == "BLOCK" for rule in hazards]),
            audit_rate=policy.route.audit_rate,
            flags=NEVER if policy.route.kind == "band" else policy.stage1.unsafe_threshold,
            escalate_flagged=policy.route.escalate_flagged,
        )


@dataclass(frozen=True)
class Outcomes:
    """What becomes of each row; ``flagged`` has shape (rows, 14)."""

    escalated: Bools
    unsafe: Bools
    flagged: Bools

    def failures(self, wish: Wish) -> Bools:
        """The rows, of those that the wish speaks of, on which the policy does what the wish limits."""
        if wish.kind == "escalation":
            return self.escalated
        positive = self.flagged[:, HAZARD_INDEX[wish.hazard]] if wish.hazard else self.unsafe
        return ~positive if wish.kind == "missed_unsafe" else positive


def escalated(rows: Sample, rules: Rules) -> Bools:
    """The rows that go on to stage 2."""
    sensitive = (rows.near >= rules.escalate_at).any(axis=1)
    found: Bools = (rows.worth >= rules.low) | rows.triggered | sensitive | (rows.audit < rules.audit_rate)
    return found | (rows.stage1 >= rules.flags) if rules.escalate_flagged else found


def alarm(rows: Sample, rules: Rules, escalates: Bools) -> Floats:
    """The merged score of what is escalated; of the rest plus infinity where stage 1 flags, else minus infinity."""
    alone = np.where(rows.stage1 >= rules.flags, np.inf, -np.inf)
    return np.where(escalates, rows.merged, alone)


def hazard_scores(rows: Sample, escalates: Bools) -> Floats:
    """The probability of each hazard as the answer gives it, -1 where it is unknown."""
    return np.where(escalates[:, None], rows.hazards, rows.of_stage1)


def outcomes(rows: Sample, rules: Rules) -> Outcomes:
    """What a policy with these rules does with each row."""
    escalates = escalated(rows, rules)
    scores = hazard_scores(rows, escalates)
    flagged = (scores >= rules.thresholds) & (scores >= 0)
    blocked = (flagged & rules.blocks).any(axis=1)
    return Outcomes(escalates, (alarm(rows, rules, escalates) >= rules.unsafe_threshold) | blocked, flagged)
