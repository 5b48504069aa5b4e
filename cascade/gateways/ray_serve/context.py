"""Ray's context of a call -> *RayContext*: what the guard and the calls ask of a gRPC call, and what they send back.

So a request is let in, counted and answered by the same code as on a server of our own. What Ray's proxy does not pass
on is the deadline (when it is over, Ray cancels the call instead), and the details of the error that ends a stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import Message


class ProxyContext(Protocol):
    """A ``ray.serve.grpc_util.RayServegRPCContext``; it travels back to the proxy with each answer."""

    def peer(self) -> str:
        """Who called the proxy."""

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """What the caller sent beside the request."""

    def auth_context(self) -> dict[str, Any]:
        """What the connection to the proxy proves."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Says how the call ends."""

    def set_details(self, details: str) -> None:
        """Says so in words."""

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, Any]]) -> None:
        """Adds what comes after the answer."""


class Refused(Exception):
    """A call that ended with a status other than OK, which its context holds."""


class RayContext:
    """A ``grpc.aio.ServicerContext`` as far as :mod:`cascade.serve` needs one."""

    def __init__(self, proxy: ProxyContext) -> None:
        self._proxy = proxy
        self._code = grpc.StatusCode.OK
        # A message is taken when the one before has gone on its way: who produces faster has to wait.
        self._messages: asyncio.Queue[Message] = asyncio.Queue(1)

    def peer(self) -> str:
        """Who called."""
        return self._proxy.peer()

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """What came beside the request."""
        return self._proxy.invocation_metadata()

    def auth_context(self) -> dict[str, Any]:
        """What the connection proves."""
        return self._proxy.auth_context()

    def time_remaining(self) -> float | None:
        """None: Ray's proxy does not tell."""
        return None

    def code(self) -> grpc.StatusCode:
        """How the call ended."""
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        """Says how the call ends."""
        self._code = code
        self._proxy.set_code(code)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing: Sequence[tuple[str, Any]] = ()
    ) -> NoReturn:
        """Ends the call.

        Raises:
            Refused: always.
        """
        self.set_code(code)
        self._proxy.set_details(details)
        self._proxy.set_trailing_metadata(list(trailing))
        raise Refused(details)

    async def write(self, message: Message) -> None:
        """Sends a message of a stream."""
        await self._messages.put(message)

    async def written(
        self, handler: Callable[[Any, Any], Awaitable[None]], requests: Any
    ) -> AsyncGenerator[Message, None]:
        """Runs a streaming handler on this context, and yields what it writes.

        Raises:
            Refused: that is how it ended.
        """
        running: asyncio.Future[None] = asyncio.ensure_future(handler(requests, self))
        message: asyncio.Future[Message] | None = None
        try:
            while True:
                message = asyncio.ensure_future(self._messages.get())
                await asyncio.wait((message, running), return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    break
                yield message.result()
            message.cancel()
            while not self._messages.empty():  # what was written last
                yield self._messages.get_nowait()
            await running
        finally:
            under_way = [future for future in (running, message) if future is not None]
            for future in under_way:
                future.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
