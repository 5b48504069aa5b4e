"""The client for asyncio: as :class:`cascade_client.Client`, with ``await`` and ``async for``."""

# ruff: noqa: ASYNC109 - a timeout here is the deadline of a call, which the server is told

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from cascade_client._proto.cascade_service_pb2 import (
    BatchCheckRequest,
    CheckStreamRequest,
    ModerateEnd,
    ModerateStreamRequest,
    ModerateStreamResponse,
)
from cascade_client._proto.check_pb2 import CheckResponse
from cascade_client._proto.health_pb2 import HealthCheckRequest, HealthCheckResponse
from cascade_client.client import TIMEOUT_S
from cascade_client.connection import Connection
from cascade_client.contents import Content, Item, Options, item_of, request_of, start_of
from cascade_client.ending import Ending
from cascade_client.errors import from_call
from cascade_client.methods import Methods

T = TypeVar("T")


class AsyncClient:
    """A client of one server, for one event loop; close it at the end. Arguments and errors are those of ``Client``.

    Args:
        target, token, tls, ca, certificate, timeout, options: see :class:`cascade_client.Client`.

    Raises:
        CascadeError: the server refuses, fails or cannot be reached, in every method.
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | None = None,
        tls: bool = False,
        ca: str | Path | None = None,
        certificate: tuple[str | Path, str | Path] | None = None,
        timeout: float = TIMEOUT_S,
        options: Iterable[tuple[str, Any]] = (),
    ) -> None:
        connection = Connection(target, token, tls, ca, certificate, tuple(options))
        arguments = connection.arguments
        self._channel = (
            grpc.aio.secure_channel(target, connection.credentials(), arguments)
            if connection.secure
            else grpc.aio.insecure_channel(target, arguments)
        )
        self._methods = Methods(self._channel)
        self._metadata = connection.metadata
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection and what is still under way."""
        await self._channel.close()

    async def check(
        self, content: Content, *, request_id: str = "", options: Options | None = None, timeout: float | None = None
    ) -> CheckResponse:
        """Judges one content: a text, an exchange, a conversation or its turns, or a whole request."""
        request = request_of(content, request_id, options)
        response: CheckResponse = await self._call(self._methods.check, request, timeout)
        return response

    async def check_batch(
        self, contents: Iterable[Content], *, options: Options | None = None, timeout: float | None = None
    ) -> list[Item]:
        """Judges several contents; there is an item for each, in their order."""
        request = BatchCheckRequest(requests=[request_of(content, options=options) for content in contents])
        response = await self._call(self._methods.batch_check, request, timeout)
        return [item_of(item) for item in response.items]

    async def check_stream(
        self,
        contents: Iterable[Content] | AsyncIterable[Content],
        *,
        options: Options | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Judges contents as they come. Items come as they are ready: give requests ids to tell them apart.

        Closing the generator ends the call.
        """

        async def requests() -> AsyncIterator[CheckStreamRequest]:
            async for content in _each(contents):
                yield CheckStreamRequest(request=request_of(content, options=options))

        async with aclosing(self._stream(self._methods.check_stream, requests(), timeout)) as messages:
            async for message in messages:
                yield item_of(message)

    async def moderate_stream(
        self,
        deltas: Iterable[str] | AsyncIterable[str],
        *,
        prompt: str = "",
        request_id: str = "",
        options: Options | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[ModerateStreamResponse, None]:
        """Judges one generation while it is written; show no more of it than ``released_upto`` code points.

        The last state is ``final``: after a block no further delta is judged. Closing the generator ends the call.
        """

        async def events() -> AsyncIterator[ModerateStreamRequest]:
            yield ModerateStreamRequest(start=start_of(prompt, request_id, options))
            async for delta in _each(deltas):
                yield ModerateStreamRequest(delta=delta)
            yield ModerateStreamRequest(end=ModerateEnd())

        async with aclosing(self._stream(self._methods.moderate_stream, events(), timeout)) as messages:
            async for message in messages:
                yield message

    async def healthy(self, service: str = "", *, timeout: float | None = None) -> bool:
        """Whether the server says that it, or one service or stage of it ("stage1", "stage2"), is serving."""
        response = await self._call(self._methods.health, HealthCheckRequest(service=service), timeout)
        return bool(response.status == HealthCheckResponse.SERVING)

    async def _call(self, method: Callable[..., Any], request: object, timeout: float | None) -> Any:
        try:
            return await method(request, timeout=self._timeout if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_call(error) from None

    async def _stream(
        self, method: Callable[..., Any], requests: AsyncIterator[Any], timeout: float | None
    ) -> AsyncGenerator[Any, None]:
        failed: list[Exception] = []

        async def noting() -> AsyncIterator[Any]:
            """The requests; gRPC would make a failure of theirs look like a cancelled task."""
            try:
                async for request in requests:
                    yield request
            except Exception as error:
                failed.append(error)
                raise

        call = method(noting(), timeout=timeout, metadata=self._metadata)
        ending = Ending(call)
        try:
            async for message in call:
                yield message
        except grpc.RpcError:
            if error := failed[0] if failed else await ending.error():
                raise error from None
        except asyncio.CancelledError:
            if failed:
                raise failed[0] from None
            raise
        finally:
            call.cancel()  # without effect on one that has ended


async def _each(values: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """The values, whichever way they come."""
    if isinstance(values, AsyncIterable):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value
