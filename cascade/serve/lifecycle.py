"""A server's last seconds: which calls are under way, and how open streams hear that no more will be taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Lifecycle:
    """Counts calls and ends what waits for more of them once :meth:`drain` was called. Lives on one event loop."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._open: set[asyncio.Timeout] = set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts the body as a call under way."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._idle.set()

    @asynccontextmanager
    async def until_drain(self) -> AsyncIterator[None]:
        """Runs the body until the server drains, then cuts it short with TimeoutError: for waiting, not for work."""
        async with asyncio.timeout(0 if self.draining else None) as scope:
            self._open.add(scope)
            try:
                yield
            finally:
                self._open.discard(scope)

    def drain(self) -> None:
        """From now on nothing waits for more."""
        self.draining = True
        for scope in self._open:
            scope.reschedule(asyncio.get_running_loop().time())

    async def idle(self) -> None:
        """Returns when no call is under way."""
        await self._idle.wait()
