"""A policy -> its router, with all that can be worked out before a request comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.routing.band import band
from cascade.routing.escalation import Escalation
from cascade.routing.margin import Margins
from cascade.routing.router import Worth

if TYPE_CHECKING:
    from cascade.policy.model import Policy


def build_router(policy: Policy) -> Escalation:
    """The router of a policy; ``Policy.router`` keeps it."""
    return Escalation(
        worth=worth_of(policy),
        at=bar_of(policy),
        unsafe_threshold=policy.stage1.unsafe_threshold,
        escalate_flagged=policy.route.escalate_flagged,
        audit_rate=policy.route.audit_rate,
        escalate_at={slug: rule.escalate_at for slug, rule in policy.hazards.items() if rule.escalate_at is not None},
    )


def worth_of(policy: Policy) -> Worth:
    """What the policy's kind of router thinks of a text."""
    if policy.route.kind == "band":
        return band
    if policy.route.kind == "margin":
        return Margins(policy.route.margins, policy.stage1.unsafe_threshold)
    assert policy.route.delegation is not None, "a policy of this kind has a network"
    return policy.route.delegation.judge()


def bar_of(policy: Policy) -> float:
    """The worth from which on stage 2 is asked: of a band, whose worth is a probability, its lower end."""
    return policy.route.low if policy.route.kind == "band" else policy.route.at
