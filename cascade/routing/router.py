"""What a router is: signals of stage 1 in, a decision to escalate out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cascade.v1.check_pb2 import RouteReason


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a request when stage 1 is done.

    ``stage1`` and ``categories`` are calibrated probabilities, merged over all windows, views and parts; ``categories``
    are stage 1's own, by name. ``triggers`` are the names of those that fired. ``audit_draw`` is drawn evenly from
    [0, 1), once a request. ``tokens`` counts those of the raw content.
    """

    stage1: float
    categories: Mapping[str, float] = field(default_factory=dict)
    triggers: tuple[str, ...] = ()
    audit_draw: float = 1.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether stage 2 is asked, the first reason for it, and all triggers that fired, whether they decided or not.

    ``audited`` tells that the random audit drew the request, whether that decided or not: who looks for a random sample
    of the traffic finds it there, while those whose reason is the audit are what no other reason wanted.
    """

    escalate: bool
    reason: RouteReason
    triggers: tuple[str, ...] = ()
    audited: bool = False


class Router(Protocol):
    """Decides from stage 1's signals alone; pure and fast. One is built for a policy, not for a request."""

    def route(self, signals: Signals) -> Decision:
        """Whether this request is worth stage 2."""


class Worth(Protocol):
    """What the kinds of routers differ in: how much it is worth, 0 to 1, to ask stage 2 about a request."""

    def __call__(self, signals: Signals) -> float:
        """The worth; the same for the same signals."""
