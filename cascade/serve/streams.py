"""Bounds on streams: how many one caller may have open, and how long one may lie still.

A stream lies still when nothing comes and nothing goes: its caller sends nothing, or does not read what is sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from cascade.errors import OverloadedError, StreamIdleError
from cascade.serve.wire import Malformed, Reader

RETRY_S = 1.0


class Streams:
    """The open streams by caller."""

    def __init__(self, most: int = 1000, idle_s: float = 300.0) -> None:
        self._most, self._idle_s = most, idle_s
        self._open: Counter[str] = Counter()

    @asynccontextmanager
    async def open(self, caller: str) -> AsyncIterator[Stream]:
        """Counts the body as an open stream, and ends it when it lies still.

        Raises:
            OverloadedError: the caller has as many as it may.
            StreamIdleError: it lay still.
        """
        if self._open[caller] >= self._most:
            raise OverloadedError(f"a caller may have {self._most} streams open at a time", RETRY_S)
        self._open[caller] += 1
        scope = asyncio.timeout(self._idle_s)
        try:
            async with scope:
                yield Stream(scope, self._idle_s)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise StreamIdleError(f"nothing came or went on the stream for {self._idle_s:g} s") from error
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


class Stream:
    """One stream, kept open by what comes and goes."""

    def __init__(self, scope: asyncio.Timeout, idle_s: float) -> None:
        self._scope, self._idle_s = scope, idle_s
        self._loop = asyncio.get_running_loop()

    async def incoming(
        self, messages: AsyncIterator[bytes], read: Reader, heard: Callable[[Any], None] | None
    ) -> AsyncIterator[Message | Malformed]:
        """The messages of the caller as they come; ``heard`` is told each first."""
        async for data in messages:
            self._touch()
            message = read(data)
            if heard and not isinstance(message, Malformed):
                heard(message)
            yield message

    def sender(self, send: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        """What sends messages to the caller."""

        async def touching(message: Any) -> None:
            try:
                await send(message)
            except grpc.aio.InternalError:  # the caller is gone: grpc is about to say so, by cancelling the handler
                await self._loop.create_future()
            self._touch()

        return touching

    def _touch(self) -> None:
        if not self._scope.expired():
            self._scope.reschedule(self._loop.time() + self._idle_s)
