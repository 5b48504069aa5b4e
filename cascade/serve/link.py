"""Calls between a supervisor and a worker, both ways over a socket: *name, arguments* -> pickled -> *result, error*.

What a pickle says is trusted, for the socket has two ends and both are the server's own processes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cascade.errors import CascadeError, UnavailableError

LENGTH = struct.Struct("!I")

Method = Callable[..., Awaitable[Any]]

log = logging.getLogger(__name__)


class Link:
    """One end of a connection between two processes. Lives on one event loop; ``open()`` comes first.

    Args:
        end: a connected socket.
        methods: what the other side may call, by name.
    """

    def __init__(self, end: socket.socket, methods: Mapping[str, Method]) -> None:
        self._socket, self._methods = end, methods
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()

    async def open(self) -> None:
        """Starts to take calls and answers."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        self._reading = asyncio.create_task(self._read(reader))

    async def call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """What the other side's method returns.

        Raises:
            CascadeError: what it raises.
            UnavailableError: the other side is gone, or does not answer in time.
        """
        if self.closed.is_set():
            raise _gone()
        number = next(self._numbers)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._send((number, method, arguments))
                return await future
        except TimeoutError:
            raise UnavailableError(f"{method}: another process of the server does not answer") from None
        except OSError:  # it ended in this moment: nobody has read so from the socket yet
            raise _gone() from None
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """Ends the connection, and what it is still answering."""
        if self._writer:
            self._writer.close()
        for task in (self._reading, *self._answering):
            if task:
                task.cancel()
        self._end()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                number, method, content = pickle.loads(await reader.readexactly(length))
                if method is None:
                    self._take(number, *content)
                else:
                    task = asyncio.create_task(self._answer(number, method, content))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
        except (EOFError, OSError):  # an IncompleteReadError is an EOFError
            log.debug("the other end is gone")
        finally:
            self._end()

    def _take(self, number: int, result: Any, error: CascadeError | None) -> None:
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    async def _answer(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        result = error = None
        try:
            result = await self._methods[method](*arguments)
        except CascadeError as known:
            error = _Packed(known)
        except Exception as unknown:
            log.exception("a call of another process failed", extra={"method": method})
            error = _Packed(CascadeError(f"{method}: {type(unknown).__name__}"))
        try:
            await self._send((number, None, (result, error)))
        except OSError:
            self._end()

    async def _send(self, message: tuple[Any, ...]) -> None:
        assert self._writer is not None, "open() comes first"
        data = pickle.dumps(message)
        self._writer.write(LENGTH.pack(len(data)) + data)
        await self._writer.drain()

    def _end(self) -> None:
        self.closed.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_gone())


class _Packed:
    """An error on its way. Pickle alone would call its class with the message, which not every class takes."""

    def __init__(self, error: CascadeError) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (type(self._error), self._error.args, vars(self._error))


def _unpacked(kind: type[CascadeError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> CascadeError:
    error = kind.__new__(kind)
    error.args = arguments
    vars(error).update(attributes)
    return error


def _gone() -> UnavailableError:
    return UnavailableError("another process of the server is gone")
