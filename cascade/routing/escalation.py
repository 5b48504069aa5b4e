"""The router of every policy: its kind says what is worth stage 2, the other reasons hold whatever the kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cascade.routing.router import Decision, Signals, Worth
from cascade.v1 import check_pb2
from cascade.v1.check_pb2 import RouteReason
from stages.taxonomy import HAZARDS, Hazard


@dataclass(frozen=True)
class Escalation:
    """Escalates what stage 1 flags, what is worth it, and what stage 1 must not decide alone.

    No kind can take an escalation back that a flag, a trigger, a sensitive hazard or an audit asks for.

    Attributes:
        worth: what the kind of router thinks of a request.
        at: the worth from which on stage 2 is asked.
        unsafe_threshold: the calibrated probability from which on stage 1 flags.
        escalate_flagged: whether what stage 1 flags is escalated whatever it is worth, so that stage 2 names the
            hazards. Without it stage 1's verdict stands for what is flagged but not worth stage 2.
        audit_rate: the share, 0 to 1, of all requests that is escalated whatever else is known of them, to watch for
            drift and to tune from.
        escalate_at: hazards, by slug, that stage 1 may not clear alone: a request escalates when one of the labels that
            are near to the hazard reaches that probability.
    """

    worth: Worth
    at: float
    unsafe_threshold: float
    escalate_flagged: bool = True
    audit_rate: float = 0.0
    escalate_at: Mapping[str, float] = field(default_factory=dict)

    def route(self, signals: Signals) -> Decision:
        """Gives the first reason that holds, in the order of ``RouteReason``."""
        reason = self._reason(signals)
        return Decision(reason != check_pb2.ROUTE_REASON_PASSED, reason, signals.triggers, self._audited(signals))

    def _reason(self, signals: Signals) -> RouteReason:
        if self.escalate_flagged and signals.stage1 >= self.unsafe_threshold:
            return check_pb2.ROUTE_REASON_FLAGGED
        if self.worth(signals) >= self.at:
            return check_pb2.ROUTE_REASON_UNCERTAIN
        if signals.triggers:
            return check_pb2.ROUTE_REASON_TRIGGERED
        if self._near_sensitive_hazard(signals.categories):
            return check_pb2.ROUTE_REASON_SENSITIVE_HAZARD
        if self._audited(signals):
            return check_pb2.ROUTE_REASON_AUDITED
        return check_pb2.ROUTE_REASON_PASSED

    def _audited(self, signals: Signals) -> bool:
        return signals.audit_draw < self.audit_rate

    def _near_sensitive_hazard(self, categories: Mapping[str, float]) -> bool:
        return any(label in categories and categories[label] >= at for label, at in self._watched.items())

    @cached_property
    def _watched(self) -> dict[str, float]:
        """The labels that are near to a sensitive hazard, each with the lowest probability that one asks for."""
        watched: dict[str, float] = {}
        for hazard in HAZARDS:
            if hazard.slug in self.escalate_at:
                for label in near(hazard):
                    watched[label] = min(watched.get(label, 1.0), self.escalate_at[hazard.slug])
        return watched


def near(hazard: Hazard) -> tuple[str, ...]:
    """The labels of a stage 1 that tell that a hazard may be there: its own name, and TinySafe's wider categories."""
    return (hazard.slug, *hazard.tinysafe)
