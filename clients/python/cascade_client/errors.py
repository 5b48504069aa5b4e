"""*gRPC status with its details* -> an exception that says what went wrong, where, and whether to come again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from cascade_client._proto.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from cascade_client._proto.status_pb2 import Status

DETAILS_KEY = "grpc-status-details-bin"
CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request that is at fault, for instance ``conversation.turns[1].role``."""

    field: str
    description: str


class CascadeError(Exception):
    """A call, or one item of it, failed. Classes below are for the codes that callers treat differently.

    Attributes:
        code: the gRPC code.
        message: for people; never holds the text that was judged.
        reason: a stable name for programs, for instance "LIMIT_EXCEEDED"; empty if the server was not reached.
        metadata: what belongs to the reason, for instance the limit.
        fields: the fields at fault.
        retry_after: seconds after which another try may succeed; None if the server does not say.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        fields: tuple[Violation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code.name}{f' ({reason})' if reason else ''}: {message}")
        self.code, self.message, self.reason = code, message, reason
        self.metadata = dict(metadata or {})
        self.fields = fields
        self.retry_after = retry_after


class InvalidRequestError(CascadeError):
    """The request is malformed; ``fields`` says where."""


class NotFoundError(CascadeError):
    """There is no policy, adapter or service of that name."""


class UnauthenticatedError(CascadeError):
    """There was no token, or one that the server does not know."""


class PermissionDeniedError(CascadeError):
    """The token does not allow this."""


class LimitExceededError(CascadeError):
    """The request is larger than the server takes; another try cannot help."""


class OverloadedError(CascadeError):
    """The server, or this caller's quota, is full; ``retry_after`` says until when."""


class UnavailableError(CascadeError):
    """The server cannot be reached, starts, stops, or has lost a stage."""


class DeadlineError(CascadeError):
    """There was no answer in time."""


KINDS: dict[grpc.StatusCode, type[CascadeError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def from_status(status: Status) -> CascadeError:
    """The error that a ``google.rpc.Status`` describes."""
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    told = [kind for packed in status.details for kind in (info, bad, retry) if packed.Unpack(kind)]
    code = CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    kind = KINDS.get(code, CascadeError)
    if kind is LimitExceededError and retry in told:
        kind = OverloadedError
    return kind(
        code,
        status.message,
        reason=info.reason,
        metadata=info.metadata,
        fields=tuple(Violation(violation.field, violation.description) for violation in bad.field_violations),
        retry_after=retry.retry_delay.ToMilliseconds() / 1000 if retry in told else None,
    )


def from_call(error: grpc.RpcError) -> CascadeError:
    """The error of a call that failed; one without details comes from gRPC itself."""
    call: Any = error
    return from_ending(call.code(), call.details(), call.trailing_metadata())


def from_ending(code: grpc.StatusCode, details: str | None, metadata: Iterable[tuple[str, Any]] | None) -> CascadeError:
    """The error of a call that ended with this code, message and trailing metadata."""
    for key, value in metadata or ():
        if key == DETAILS_KEY:
            return from_status(Status.FromString(value))
    return from_status(Status(code=code.value[0], message=details or ""))
