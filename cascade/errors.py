"""Every error that Cascade raises on purpose: one hierarchy, each class with a stable ``reason``.

The stages' own errors are repeated here, so that a caller imports from one place. ``cascade.serve`` maps the classes to
gRPC codes and details in one function. A message is for people and never holds a user's text.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.errors import CascadeError, DependencyError, ModelError, ScoreDriftError, StageError, StageUnavailableError

__all__ = [
    "CascadeError",
    "DeadlineError",
    "DependencyError",
    "InvalidRequestError",
    "LimitExceededError",
    "ModelError",
    "NotFoundError",
    "OverloadedError",
    "PolicyError",
    "ScoreDriftError",
    "StageError",
    "StageUnavailableError",
    "UnavailableError",
    "UnsupportedError",
]


class InvalidRequestError(CascadeError):
    """The request is malformed; ``field`` is the path of the field at fault. INVALID_ARGUMENT."""

    reason = "INVALID_REQUEST"

    def __init__(self, message: str, field: str) -> None:
        """Says what is wrong with the field ``field``."""
        super().__init__(message)
        self.field = field


class LimitExceededError(CascadeError):
    """The request is larger than the server takes; trying again cannot help. RESOURCE_EXHAUSTED without RetryInfo."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, what: str, limit: int) -> None:
        """Says that ``what``, for instance "bytes of text", may be at most ``limit``."""
        super().__init__(f"more {what} than the limit of {limit}")
        self.what = what
        self.limit = limit


class OverloadedError(CascadeError):
    """The queue is full; trying again after ``retry_after_s`` seconds may help. RESOURCE_EXHAUSTED with RetryInfo."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Says what is full and when there may be room again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(CascadeError):
    """The caller's deadline passed before there was an answer. DEADLINE_EXCEEDED."""

    reason = "DEADLINE_EXCEEDED"


class NotFoundError(CascadeError):
    """A policy, adapter or stage of that name does not exist. NOT_FOUND."""

    reason = "NOT_FOUND"


class UnavailableError(CascadeError):
    """The service, or a stage of it, is starting, draining or down. UNAVAILABLE."""

    reason = "UNAVAILABLE"


class UnsupportedError(CascadeError):
    """The contract has it, this server does not do it. UNIMPLEMENTED."""

    reason = "UNSUPPORTED"


class PolicyError(CascadeError):
    """A policy cannot be used; ``problems`` says why, a line each. INVALID_ARGUMENT."""

    reason = "POLICY_INVALID"

    def __init__(self, problems: Sequence[str]) -> None:
        """Takes at least one problem."""
        super().__init__("; ".join(problems))
        self.problems = list(problems)
