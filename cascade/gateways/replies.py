"""What a proxy tells of an answer or an error: *CheckResponse, exception* -> headers, facts, a typed JSON body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from typing import Any

from cascade.errors import (
    CascadeError,
    InvalidRequestError,
    LimitExceededError,
    OverloadedError,
    RateLimitedError,
    UnsupportedError,
)
from cascade.v1.check_pb2 import Action, CheckResponse, Verdict

PREFIX = "x-cascade-"
FACTS = ("verdict", "action", "unsafe-probability", "hazards", "escalated", "request-id", "policy-revision")
ERROR_HEADER = PREFIX + "error"
HEADERS = (*(PREFIX + name for name in FACTS), ERROR_HEADER)
BLOCKED = 403
# Faults of who sent the body, and what passes by itself. Whatever else goes wrong is the proxy's to decide about.
STATUSES: dict[type[CascadeError], int] = {
    InvalidRequestError: 400,
    LimitExceededError: 413,
    UnsupportedError: 415,
    RateLimitedError: 429,
    OverloadedError: 503,
}
FAULTS = frozenset({400, 413, 415})  # of who sent the body
TYPES = dict.fromkeys(FAULTS, "invalid_request_error") | {429: "requests"}  # OpenAI's; of all others "server_error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer in place of the one that was asked for."""

    status: int
    body: bytes
    headers: dict[str, str]
    details: str  # for the proxy's access log

    @property
    def as_event(self) -> bytes:
        """The same as the last events of a stream that has begun."""
        return b"data: " + self.body + b"\n\ndata: [DONE]\n\n"


def headers_of(answer: CheckResponse) -> dict[str, str]:
    """The answer as HTTP headers, one for each of :data:`FACTS` that says anything."""
    facts = facts_of(answer)
    values = {
        **facts,
        "unsafe_probability": repr(answer.unsafe_probability),
        "hazards": ",".join(facts["hazards"]),
        "escalated": str(answer.route.escalated).lower(),
    }
    return {PREFIX + name: value for name in FACTS if (value := values[name.replace("-", "_")])}


def facts_of(answer: CheckResponse) -> dict[str, Any]:
    """The answer in short, for JSON and a proxy's metadata; never a text."""
    return {
        "verdict": Verdict.Name(answer.verdict).removeprefix("VERDICT_").lower(),
        "action": Action.Name(answer.action).removeprefix("ACTION_").lower(),
        "unsafe_probability": answer.unsafe_probability,
        "hazards": [hazard.slug for hazard in answer.hazards if hazard.flagged],
        "escalated": answer.route.escalated,
        "request_id": answer.request_id,
        "policy_revision": answer.policy_revision,
    }


def blocked(answer: CheckResponse, what: str) -> Refusal:
    """The refusal of what the policy blocks; ``what`` is "request" or "response"."""
    message = f"The {what} was blocked by the content policy."
    error = {
        "message": message,
        "type": "content_policy_violation",
        "code": f"{what}_blocked",
        "param": None,
        "cascade": facts_of(answer),
    }
    return _refusal(BLOCKED, error, headers_of(answer), f"cascade_{what}_blocked")


def refused(error: Exception, what: str) -> Refusal | None:
    """The refusal of what could not be judged; None if that is no fault of the body's and the proxy has to decide.

    What is wrong with an answer is not its reader's fault: that is 502, a bad gateway.
    """
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)
    if status is None or not isinstance(error, CascadeError):
        return None
    if what == "response" and status in FAULTS:
        status = 502
    body = {"message": str(error), "type": TYPES.get(status, "server_error"), "code": error.reason, "param": None}
    headers = {"retry-after": str(ceil(error.retry_after_s))} if isinstance(error, OverloadedError) else {}
    return _refusal(status, body, headers, f"cascade_{what}_{error.reason.lower()}")


def _refusal(status: int, error: dict[str, Any], headers: dict[str, str], details: str) -> Refusal:
    body = json.dumps({"error": error}).encode()
    return Refusal(status, body, {"content-type": "application/json", **headers}, details)
