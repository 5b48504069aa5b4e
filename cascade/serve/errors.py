"""exception -> *to_status* -> ``google.rpc.Status``: the one place that knows gRPC codes and error details.

Every error carries an ErrorInfo (domain "cascade.v1", a stable reason). INVALID_ARGUMENT adds a BadRequest that names
the field, and what a later try may cure adds a RetryInfo. An exception that nobody foresaw becomes INTERNAL with an
incident id; its traceback is in the log under that id, its message is nowhere, since it may quote a user's text.
"""

from __future__ import annotations

import logging
from typing import Any, Never
from uuid import uuid4

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from cascade.errors import (
    CascadeError,
    DeadlineError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    OverloadedError,
    PolicyError,
    StageUnavailableError,
    UnavailableError,
    UnsupportedError,
)

DOMAIN = "cascade.v1"
UNAVAILABLE_RETRY_S = 1.0  # what is starting or draining is over, or replaced, in about that time

CODES: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    PolicyError: grpc.StatusCode.INVALID_ARGUMENT,
    LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    StageUnavailableError: grpc.StatusCode.UNAVAILABLE,
    UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    CascadeError: grpc.StatusCode.INTERNAL,  # a stage that failed, and whatever else no caller can help
}

log = logging.getLogger(__name__)


def code_of(error: Exception) -> grpc.StatusCode:
    """The gRPC code of an exception; INTERNAL for one that nobody foresaw."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), grpc.StatusCode.INTERNAL)


def name_of(code: int) -> str:
    """The name of a numeric gRPC code, for instance "NOT_FOUND" of 5."""
    return next(known.name for known in grpc.StatusCode if known.value[0] == code)


def to_status(error: Exception, *, method: str, request_id: str) -> Status:
    """Turns an exception into the status that its caller gets, and logs it."""
    code = code_of(error)
    fields = {"method": method, "request_id": request_id, "code": code.name}
    if code is grpc.StatusCode.INTERNAL:
        incident = uuid4().hex
        log.error("call failed", extra={**fields, "incident": incident}, exc_info=error)
        reason = error.reason if isinstance(error, CascadeError) else CascadeError.reason
        info = ErrorInfo(reason=reason, domain=DOMAIN, metadata={"incident": incident})
        return _status(code, f"internal error; the server's log has it as incident {incident}", info)
    assert isinstance(error, CascadeError), "only a CascadeError has a code of its own"
    log.info("call refused", extra={**fields, "reason": error.reason, "error": str(error)})
    info = ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error))
    return _status(code, str(error), info, *_extra(error))


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: Status) -> Never:
    """Ends a call with a status and its details; grpc raises to unwind the handler."""
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)


def _metadata(error: CascadeError) -> dict[str, str]:
    if isinstance(error, LimitExceededError):
        return {"what": error.what, "limit": str(error.limit)}
    return {}


def _extra(error: CascadeError) -> list[Message]:
    violation = BadRequest.FieldViolation
    if isinstance(error, InvalidRequestError) and error.field:
        return [BadRequest(field_violations=[violation(field=error.field, description=str(error))])]
    if isinstance(error, PolicyError):
        return [BadRequest(field_violations=[violation(field="toml", description=line) for line in error.problems])]
    if isinstance(error, OverloadedError):
        return [_retry(error.retry_after_s)]
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
