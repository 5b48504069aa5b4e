"""The band router: stage 1 decides alone below the band, stage 2 is asked in it and above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cascade.routing.router import Decision, Signals
from cascade.v1 import check_pb2
from cascade.v1.check_pb2 import RouteReason
from stages.taxonomy import HAZARDS, Hazard


@dataclass(frozen=True)
class BandRouter:
    """Escalates what stage 1 flags, is unsure of, or must not decide alone.

    ``low`` and ``unsafe_threshold`` are calibrated probabilities of stage 1, ``audit_rate`` the share, 0 to 1, of all
    other requests that is escalated to watch for drift. ``escalate_at`` gives hazards, by slug, that stage 1 may not
    clear alone: a request escalates when one of the labels that are near to the hazard reaches that probability.
    """

    low: float
    unsafe_threshold: float
    audit_rate: float = 0.0
    escalate_at: Mapping[str, float] = field(default_factory=dict)

    def route(self, signals: Signals) -> Decision:
        """Gives the first reason that holds, in the order of ``RouteReason``."""
        reason = self._reason(signals)
        return Decision(reason != check_pb2.ROUTE_REASON_PASSED, reason, signals.triggers)

    def _reason(self, signals: Signals) -> RouteReason:
        if signals.stage1 >= self.unsafe_threshold:
            return check_pb2.ROUTE_REASON_FLAGGED
        if signals.stage1 >= self.low:
            return check_pb2.ROUTE_REASON_UNCERTAIN
        if signals.triggers:
            return check_pb2.ROUTE_REASON_TRIGGERED
        if self._near_sensitive_hazard(signals.categories):
            return check_pb2.ROUTE_REASON_SENSITIVE_HAZARD
        if signals.audit_draw < self.audit_rate:
            return check_pb2.ROUTE_REASON_AUDITED
        return check_pb2.ROUTE_REASON_PASSED

    def _near_sensitive_hazard(self, categories: Mapping[str, float]) -> bool:
        return any(
            categories[label] >= self.escalate_at[hazard.slug]
            for hazard in HAZARDS
            if hazard.slug in self.escalate_at
            for label in near(hazard)
            if label in categories
        )


def near(hazard: Hazard) -> tuple[str, ...]:
    """The labels of a stage 1 that tell that a hazard may be there: its own name, and TinySafe's wider categories."""
    return (hazard.slug, *hazard.tinysafe)
