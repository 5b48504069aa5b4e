"""HTTP request -> *Caller* -> a call of a method of the contract, until it ends, is late, or nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request

from cascade.errors import CascadeError, DeadlineError
from cascade.gateways.bodies import Bodies
from cascade.gateways.context import HttpContext
from cascade.serve.calls import Calls, Unary, expired
from cascade.serve.wire import Malformed


class Caller:
    """Calls methods for HTTP requests.

    Args:
        calls: what guards, counts and records them.
        methods: what answers, by ``package.Service/Method``.
        bodies: reads bodies.
    """

    def __init__(self, calls: Calls, methods: Mapping[str, Unary], bodies: Bodies) -> None:
        self._calls, self._bodies = calls, bodies
        self._handlers = {name: calls.unary(name, function, _as_it_is) for name, function in methods.items()}

    def admit(self, method: str, request: Request) -> None:
        """Lets a request in that is no call.

        Raises:
            UnauthenticatedError, PermissionDeniedError: or does not.
        """
        self._calls.guard(_as_grpc(_context(request)), method)

    async def body(self, method: str, request: Request) -> bytes | Malformed:
        """The body of a call that is to come, or why it is refused; who is not let in need not send one.

        Raises:
            ClientDisconnect: the caller is gone.
        """
        try:
            self._calls.guard(_as_grpc(_context(request)), method)
            return await self._bodies.read(request)
        except CascadeError as error:  # a call's refusal, which the call itself counts, logs and records
            return Malformed(error)

    async def call(self, method: str, request: Request, message: Message | Malformed) -> Message:
        """Calls a method.

        Raises:
            Refused: it ends with another status than OK.
            DeadlineError: its deadline passed.
            ClientDisconnect: the caller is gone.
        """
        context = _context(request)
        scope = asyncio.timeout_at(context.deadline)
        watching = None
        try:
            async with scope:
                watching = asyncio.create_task(_end_with(request, scope))
                return await self._handlers[method](message, context)
        except TimeoutError:
            if not scope.expired():
                raise
            if expired(_as_grpc(context)):
                raise DeadlineError("the deadline passed before there was an answer") from None
            raise ClientDisconnect from None
        finally:
            if watching:
                watching.cancel()


async def _end_with(request: Request, scope: asyncio.Timeout) -> None:
    """Ends a call when its caller is gone: nothing else can come once the body is there."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


def _context(request: Request) -> HttpContext:
    """The request's, whose deadline counts from when it was asked for first: before the body has come."""
    if not hasattr(request.state, "context"):
        request.state.context = HttpContext(request)
    context: HttpContext = request.state.context
    return context


def _as_grpc(context: HttpContext) -> Any:
    """The same: grpc's class has methods beyond those that are asked for here."""
    return context


def _as_it_is(message: Message | Malformed) -> Message | Malformed:
    return message
