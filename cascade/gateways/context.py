"""HTTP request -> *HttpContext*: what the guard and the calls ask of a gRPC call, answered for a request over HTTP.

So a request is let in, timed, counted, traced and recorded by the same code, whichever way it came.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import GRPC_DETAILS_METADATA_KEY
from starlette.requests import Request

from cascade.errors import InvalidRequestError

DEADLINE_HEADER = "grpc-timeout"  # in gRPC's own notation, as Google's gateways take it
TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Refused(Exception):
    """A call that ended with a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


class HttpContext:
    """A ``grpc.aio.ServicerContext`` as far as :mod:`cascade.serve` needs one.

    Attributes:
        deadline: when the answer is late, on the event loop's clock; None if the caller does not say.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._code = grpc.StatusCode.OK
        self._header = request.headers.get(DEADLINE_HEADER)
        found = TIMEOUT.fullmatch(self._header or "")
        now = asyncio.get_running_loop().time()
        self.deadline = now + int(found[1]) * SECONDS[found[2]] if found else None

    def peer(self) -> str:
        """Where the request came from, in gRPC's notation."""
        if self._request.client is None:
            return "unix:"
        host, port = self._request.client
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """The headers, their names in lower case."""
        return self._request.headers.items()

    def auth_context(self) -> dict[str, list[bytes]]:
        """The names in the caller's certificate, under gRPC's keys."""
        certificate: dict[str, Any] = self._request.scope.get("state", {}).get("certificate") or {}
        names = [value for _, value in certificate.get("subjectAltName", ()) if isinstance(value, str)]
        subject = [pair for part in certificate.get("subject", ()) for pair in part]
        return {
            "x509_subject_alternative_name": [name.encode() for name in names],
            "x509_common_name": [value.encode() for key, value in subject if key == "commonName"],
        }

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None if there is none.

        Raises:
            InvalidRequestError: the header that should tell it cannot be read.
        """
        if self._header is not None and self.deadline is None:
            message = f"the header {DEADLINE_HEADER} is 1 to 8 digits and a unit, H, M, S, m, u or n: 500m, say"
            raise InvalidRequestError(message, DEADLINE_HEADER)
        return None if self.deadline is None else self.deadline - asyncio.get_running_loop().time()

    def code(self) -> grpc.StatusCode:
        """How the call ended."""
        return self._code

    async def abort(self, code: grpc.StatusCode, message: str, trailing: Sequence[tuple[str, Any]] = ()) -> NoReturn:
        """Ends the call.

        Raises:
            Refused: always, with what ``google.rpc.Status`` the trailing metadata have.
        """
        self._code = code
        status = Status(code=code.value[0], message=message)
        for key, value in trailing:
            if key == GRPC_DETAILS_METADATA_KEY:
                status = Status.FromString(value)
        raise Refused(status)
