"""Every error that Cascade raises on purpose: one hierarchy, each class with a stable ``reason``.

The stages' own errors are repeated here, so that a caller imports from one place. ``cascade.serve`` maps the classes to
gRPC codes and details in one function. A message is for people and never holds a user's text.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.errors import CascadeError, DependencyError, ModelError, ScoreDriftError, StageError, StageUnavailableError

__all__ = [
    "AuditError",
    "BreakerOpenError",
    "CascadeError",
    "DeadlineError",
    "DeadlineTooShortError",
    "DependencyError",
    "InvalidRequestError",
    "LimitExceededError",
    "ModelError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "PolicyError",
    "PreconditionError",
    "RateLimitedError",
    "ScoreDriftError",
    "StageError",
    "StageUnavailableError",
    "StreamIdleError",
    "UnauthenticatedError",
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


class DeadlineTooShortError(OverloadedError):
    """What waits or runs before the request takes longer than its deadline leaves, so it is not begun."""

    reason = "DEADLINE_TOO_SHORT"

    def __init__(self, retry_after_s: float) -> None:
        """Says when there may be less to do."""
        super().__init__("the deadline is too near for what there is to do now", retry_after_s)


class RateLimitedError(OverloadedError):
    """This caller asks more often than it may."""

    reason = "RATE_LIMITED"

    def __init__(self, retry_after_s: float) -> None:
        """Says when its next request may come."""
        super().__init__("more requests a second than one caller may have", retry_after_s)


class BreakerOpenError(StageUnavailableError):
    """A stage has failed too often in a row, and is not asked until it has answered a probe."""

    reason = "BREAKER_OPEN"


class DeadlineError(CascadeError):
    """The caller's deadline passed before there was an answer. DEADLINE_EXCEEDED."""

    reason = "DEADLINE_EXCEEDED"


class StreamIdleError(DeadlineError):
    """Nothing came or went on a stream for longer than the server waits."""

    reason = "STREAM_IDLE"


class UnauthenticatedError(CascadeError):
    """The caller does not show who it is: no token or a wrong one. UNAUTHENTICATED."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(CascadeError):
    """The caller is known, and may not do this. PERMISSION_DENIED."""

    reason = "PERMISSION_DENIED"

    def __init__(self, message: str, scope: str) -> None:
        """Says what is denied and the scope that would allow it."""
        super().__init__(message)
        self.scope = scope


class NotFoundError(CascadeError):
    """A policy, adapter or stage of that name does not exist. NOT_FOUND."""

    reason = "NOT_FOUND"


class PreconditionError(CascadeError):
    """What the request builds on is not so, or not any more. FAILED_PRECONDITION."""

    reason = "PRECONDITION_FAILED"


class UnavailableError(CascadeError):
    """The service, or a stage of it, is starting, draining or down. UNAVAILABLE."""

    reason = "UNAVAILABLE"


class AuditError(UnavailableError):
    """The audit log takes no record, so that nothing is answered that would need one."""

    reason = "AUDIT_UNAVAILABLE"


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
