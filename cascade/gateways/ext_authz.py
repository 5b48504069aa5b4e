"""Envoy's external authorization filter, v3: *a request with its body* -> judged -> let through or denied.

It sees no answers; that takes ext_proc. A body that has not come whole is denied, as nobody knows what the rest says.
Failures of the service itself end the call, so that the filter's ``failure_mode_allow`` decides.
"""

from __future__ import annotations

from typing import Any

from grpc import StatusCode

from cascade.errors import CascadeError, LimitExceededError, UnsupportedError
from cascade.gateways import ext_proc_wire as wire
from cascade.gateways.envoy_messages import (
    AuthorizationResponse,
    DeniedHttpResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    OkHttpResponse,
    Status,
)
from cascade.gateways.extract import read, read_request
from cascade.gateways.judge import Judge
from cascade.gateways.per_route import per_route
from cascade.gateways.replies import ERROR_HEADER, HEADERS, Refusal, blocked, headers_of, refused
from cascade.serve.auditing import Auditor
from cascade.serve.checks import CheckService
from cascade.serve.identity import Call
from cascade.v1.check_pb2 import ACTION_BLOCK, CheckRequest, CheckResponse

METHOD = "envoy.service.auth.v3.Authorization/Check"
PARTIAL_HEADER = "x-envoy-auth-partial-body"


class Authorization:
    """The method of ``envoy.service.auth.v3.Authorization``.

    Args:
        checks: what judges.
        auditor: keeps records; None keeps none.
        enforce: what is to be blocked is denied; otherwise the verdict is told in headers, and all goes on. A route
            may say otherwise.
    """

    def __init__(self, checks: CheckService, auditor: Auditor | None, *, enforce: bool = True) -> None:
        self._judge, self._enforce = Judge(METHOD, checks, auditor), enforce

    async def check(self, request: Any, call: Call) -> Any:
        """Judges the body of one HTTP request.

        Raises:
            CascadeError: the service failed, or the route asks for what is not there.
        """
        route = per_route(call, request.attributes.context_extensions, enforce=self._enforce)
        judge = self._judge.under(route.policy)
        try:
            content = await _content(request.attributes.request.http)
            answer = await judge.check(content, call) if content else None
        except CascadeError as error:
            refusal = refused(error, "request")
            if refusal is None:
                raise
            await judge.refuse(error, call)
            return _denied(refusal) if route.enforce else _let_through({ERROR_HEADER: refusal.details})
        if answer is not None and answer.action == ACTION_BLOCK and route.enforce:
            return _denied(blocked(answer, "request"), answer)
        return _let_through(headers_of(answer) if answer else {}, answer)


async def _content(http: Any) -> CheckRequest | None:
    """What is to be judged of a request; None if there is no text in it."""
    headers = wire.header_map(http.header_map) or {name.lower(): value for name, value in http.headers.items()}
    body: bytes = http.raw_body or http.body.encode()
    if headers.get(PARTIAL_HEADER) == "true":
        raise LimitExceededError("bytes of body", len(body))
    if not body and http.size > 0:
        raise UnsupportedError("the filter does not send bodies: set with_request_body")
    return await read(read_request, body, headers)


def _let_through(headers: dict[str, str], answer: CheckResponse | None = None) -> Any:
    gone = [name for name in HEADERS if name not in headers]  # so that nobody can forge them
    allowed = OkHttpResponse(headers=_options(headers), headers_to_remove=gone)
    return AuthorizationResponse(
        status=Status(), ok_response=allowed, dynamic_metadata=wire.metadata("request", answer)
    )


def _options(headers: dict[str, str]) -> list[Any]:
    """Headers that replace what is there; this filter takes their values as text, ext_proc as bytes."""
    overwrite = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=overwrite)
        for name, value in headers.items()
    ]


def _denied(refusal: Refusal, answer: CheckResponse | None = None) -> Any:
    status = Status(code=StatusCode.PERMISSION_DENIED.value[0], message=refusal.details)
    response = DeniedHttpResponse(
        status=HttpStatus(code=refusal.status), headers=_options(refusal.headers), body=refusal.body.decode()
    )
    return AuthorizationResponse(
        status=status, denied_response=response, dynamic_metadata=wire.metadata("request", answer)
    )
