"""What a request ends with -> *answering* -> an HTTP response: codes, headers, and ``google.rpc.Status`` as JSON.

The codes are those that google/rpc/code.proto names, but for three that HTTP can tell better: a content over a limit is
413, so that no client tries it again as it does on 429, and a body that does not come is 408.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from cascade.errors import LimitExceededError, StreamIdleError
from cascade.gateways.context import Refused
from cascade.jsonform import to_dict
from cascade.serve.errors import BY_NUMBER, to_status

HTTP = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.INTERNAL: 500,
}
BY_REASON = {LimitExceededError.reason: 413, StreamIdleError.reason: 408}
CLOSED = 499  # for nobody: the caller is gone

Endpoint = Callable[[Request], Awaitable[Response]]
Form = Callable[[Status, int], dict[str, Any]]  # of an error with its HTTP code
FormOf = Callable[[str], Form]  # by the path that was asked for


def as_status(status: Status, code: int) -> dict[str, Any]:
    """``google.rpc.Status`` in JSON."""
    return to_dict(status)


def answering(endpoint: Endpoint, form_of: FormOf) -> Endpoint:
    """The endpoint, with what it raises turned into a response."""

    async def answer(request: Request) -> Response:
        form = form_of(request.url.path)
        try:
            return await endpoint(request)
        except Refused as refused:
            return _response(refused.status, form)
        except ClientDisconnect:
            return Response(status_code=CLOSED)
        except Exception as error:  # noqa: BLE001 - every failure has a status
            return _response(to_status(error, method=request.url.path, request_id=""), form)

    return answer


def detail(status: Status, kind: Any) -> Any:
    """The detail of one kind, empty if there is none."""
    found = kind()
    for packed in status.details:
        if packed.Unpack(found):
            break
    return found


def _response(status: Status, form: Form) -> Response:
    code = BY_REASON.get(detail(status, ErrorInfo).reason, HTTP.get(BY_NUMBER[status.code], 500))
    headers = {"www-authenticate": "Bearer"} if code == 401 else {}
    if milliseconds := detail(status, RetryInfo).retry_delay.ToMilliseconds():
        # The first is the standard's, in whole seconds; the second what OpenAI's clients look at before it.
        headers |= {"retry-after": str(ceil(milliseconds / 1000)), "retry-after-ms": str(milliseconds)}
    return JSONResponse(form(status, code), code, headers)


def no_such_thing(form_of: FormOf) -> dict[Any, Any]:
    """What an application answers for a path or a method that there is not, as its ``exception_handlers``."""

    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "it is registered for no other"
        code = error.status_code
        what = f"{request.method} is not for this path" if code == 405 else "there is nothing at this path"
        status = Status(code=grpc.StatusCode.NOT_FOUND.value[0], message=what)
        return JSONResponse(form_of(request.url.path)(status, code), code, dict(error.headers or {}))

    return {HTTPException: answer}
