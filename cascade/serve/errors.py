"""exception -> *to_status* -> ``google.rpc.Status``: the one place that knows gRPC codes and error details.

Every error carries an ErrorInfo (domain "cascade.v1", a stable reason). INVALID_ARGUMENT adds a BadRequest that names
the field, and what a later try may cure adds a RetryInfo. An exception that nobody foresaw becomes INTERNAL with an
incident id; its traceback is in the log under that id, its message is nowhere, since it may quote a user's text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from math import ceil
from typing import Any, Never
from uuid import uuid4

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import GRPC_DETAILS_METADATA_KEY

from cascade.errors import (
    CascadeError,
    DeadlineError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PolicyError,
    PreconditionError,
    StageUnavailableError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)

DOMAIN = "cascade.v1"
MOST_ID = 256  # characters of a request's id that are written down: one that is refused may have millions
UNAVAILABLE_RETRY_S = 1.0  # what is starting or draining is over, or replaced, in about that time
MINUTE_MS = 60_000

CODES: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    PolicyError: grpc.StatusCode.INVALID_ARGUMENT,
    LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    StageUnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    CascadeError: grpc.StatusCode.INTERNAL,  # a stage that failed, and whatever else no caller can help
}

BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

log = logging.getLogger(__name__)


def code_of(error: Exception) -> grpc.StatusCode:
    """The gRPC code of an exception; INTERNAL for one that nobody foresaw."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)


def name_of(code: int) -> str:
    """The name of a numeric gRPC code, for instance "NOT_FOUND" of 5."""
    return BY_NUMBER[code].name


def to_status(error: Exception, *, method: str, request_id: str) -> Status:
    """Turns an exception into the status that its caller gets, and logs it."""
    code = code_of(error)
    fields = {"method": method, "request_id": request_id[:MOST_ID], "code": code.name}
    if code is grpc.StatusCode.INTERNAL:
        incident = uuid4().hex
        log.error("call failed", extra={**fields, "incident": incident}, exc_info=error)
        reason = error.reason if isinstance(error, CascadeError) else CascadeError.reason
        info = ErrorInfo(reason=reason, domain=DOMAIN, metadata={"incident": incident})
        return _status(code, f"internal error; the server's log has it as incident {incident}", info)
    assert isinstance(error, CascadeError), "only a CascadeError has a code of its own"
    # An overloaded server has better things to do than to write a line for each call; admission counts them.
    level = logging.DEBUG if isinstance(error, OverloadedError) else logging.INFO
    if log.isEnabledFor(level):
        log.log(level, "call refused", extra={**fields, "reason": error.reason, "error": str(error)})
    if isinstance(error, OverloadedError):
        return _overloaded(error.reason, str(error), _rounded(1000 * error.retry_after_s))
    info = ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error))
    return _status(code, str(error), info, *_extra(error))


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: Status) -> Never:
    """Ends a call with a status and its details; grpc raises to unwind the handler."""
    details = (GRPC_DETAILS_METADATA_KEY, status.SerializeToString())
    await context.abort(BY_NUMBER[status.code], status.message, (details, *_pushback(status, context.time_remaining)))


def _pushback(status: Status, time_remaining: Callable[[], float | None]) -> list[tuple[str, str]]:
    """When to come again, told so that a client whose retry policy names RESOURCE_EXHAUSTED waits (gRFC A6).

    Never, which is -1, if no later try can help, or none before the deadline: its caller had better know at once.
    """
    if status.code != grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]:
        return []
    pushback_ms, retry = -1, RetryInfo()
    if any(detail.Unpack(retry) for detail in status.details):
        left, delay_ms = time_remaining(), retry.retry_delay.ToMilliseconds()
        pushback_ms = delay_ms if left is None or delay_ms < 1000 * left else -1
    return [("grpc-retry-pushback-ms", str(pushback_ms))]


@lru_cache(512)  # there are few of them, and an overloaded server gives them often
def _overloaded(reason: str, message: str, retry_ms: int) -> Status:
    info = ErrorInfo(reason=reason, domain=DOMAIN)
    return _status(grpc.StatusCode.RESOURCE_EXHAUSTED, message, info, _retry(retry_ms / 1000))


def _rounded(milliseconds: float) -> int:
    """A time to two digits, or to the minute where that is finer, and never too short."""
    step: int = min(10 ** max(0, len(str(int(milliseconds))) - 2), MINUTE_MS)
    return max(1, ceil(milliseconds / step) * step)


def _metadata(error: CascadeError) -> dict[str, str]:
    if isinstance(error, LimitExceededError):
        return {"what": error.what, "limit": str(error.limit)}
    if isinstance(error, PermissionDeniedError):
        return {"scope": error.scope}
    return {}


def _extra(error: CascadeError) -> list[Message]:
    violation = BadRequest.FieldViolation
    if isinstance(error, InvalidRequestError) and error.field:
        return [BadRequest(field_violations=[violation(field=error.field, description=str(error))])]
    if isinstance(error, PolicyError):
        return [BadRequest(field_violations=[violation(field="toml", description=line) for line in error.problems])]
    if isinstance(error, UnavailableError | StageUnavailableError):
        return [_retry(UNAVAILABLE_RETRY_S)]
    return []


def _retry(seconds: float) -> RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(max(1, round(seconds * 1000)))
    return RetryInfo(retry_delay=delay)


def _status(code: grpc.StatusCode, message: str, *details: Message) -> Status:
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
