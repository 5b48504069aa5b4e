"""An ASGI application behind a port, on the server's own event loop: *bind* -> open -> drain. Needs extra `http`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from random import uniform
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cascade.errors import CascadeError
from cascade.serve.port import bound
from cascade.serve.security import MAX_METADATA_BYTES
from cascade.serve.tls import TlsFiles, server_context

HEADERS_S = 10.0  # from a connection, or from the first byte of its next request, to the end of the headers
IDLE_S = 75.0  # longer than what balancers keep an idle connection for, so that they are the ones to close it
BACKLOG = 2048


class Listener:
    """Listens on a port, and answers by the application that it has at the time.

    Args:
        app: what answers; another one may take its place at any time.
        tls: the certificate; None to serve without encryption.
        max_age_s: after about that time a connection is asked to be made anew, with an answer; 0 for never.
    """

    def __init__(self, app: ASGIApp, tls: TlsFiles | None, max_age_s: float = 0.0) -> None:
        self.app = app
        self._max_age_s = max_age_s
        config = uvicorn.Config(
            self._answer,
            loop="none",
            http=_Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,  # a line of it would hold what is asked; calls have lines of their own
            proxy_headers=False,  # a caller would choose the address that it is known by
            server_header=False,
            timeout_keep_alive=IDLE_S,  # type: ignore[arg-type]  # it goes to call_later, which takes seconds
            h11_max_incomplete_event_size=MAX_METADATA_BYTES,
            backlog=BACKLOG,
            ssl_context_factory=(lambda *_: server_context(tls)) if tls else None,
        )
        config.load()
        self._config, self._server = config, _Server(config)
        self._sockets: Sequence[socket.socket] = ()
        self._serving: asyncio.Task[None] | None = None

    def bind(self, host: str, port: int, *, shared: bool) -> int:
        """Takes a port, a free one for 0, and returns it; nothing listens yet.

        Raises:
            CascadeError: the address cannot be used.
        """
        self._sockets = bound(host, port, shared=shared, option="--http-port")
        return int(self._sockets[0].getsockname()[1])

    async def open(self) -> None:
        """Listens, if it does not yet, and answers from now on.

        Raises:
            CascadeError: somebody else has taken the port in the meantime.
        """
        if self._serving:
            return
        self._serving = asyncio.create_task(self._server.serve(list(self._sockets)))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait([self._serving, listening], return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._serving.done():
            raise CascadeError(f"cannot listen for HTTP: {self._serving.exception()}")

    async def drain(self, seconds: float) -> None:
        """Listens no more, and gives the requests under way this long to end."""
        if self._serving:
            self._config.timeout_graceful_shutdown = seconds  # type: ignore[assignment]  # wait_for takes it
            self._server.should_exit = True
            await self._serving
        self._abort()

    async def close(self) -> None:
        """Stops at once."""
        self._server.should_exit = self._server.force_exit = True
        self._abort()
        if self._serving:
            await asyncio.wait([self._serving])
        for bound_socket in self._sockets:
            bound_socket.close()

    def _abort(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        age = asyncio.get_running_loop().time() - scope["state"]["since"]
        old = 0 < self._max_age_s * uniform(0.9, 1.1) < age  # or all connections of a moment would end in one, too
        await self.app(scope, receive, _closing(send) if old else send)


def _closing(send: Send) -> Send:
    """Sends a response after which the connection is closed."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return closing


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, which are the process's business."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and tells so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them as they are."""
        yield


class _Connection(H11Protocol):
    """A connection that hands on its caller's certificate, and is closed if a request's headers come to no end."""

    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for the headers."""
        super().connection_made(transport)
        self.app_state = {"certificate": transport.get_extra_info("peercert"), "since": self.loop.time()}
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Waits for the headers for so long only, however slowly they come."""
        super().data_received(data)
        cycle: Any = self.cycle  # None before the first request
        if cycle is None or cycle.response_complete:
            self._wait()
        else:
            self._relax()

    def on_response_complete(self) -> None:
        """Waits for the rest of a request that has begun while this one was answered."""
        super().on_response_complete()
        if self.cycle.response_complete and self.conn.trailing_data[0]:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits no more."""
        self._relax()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._hurry is None:
            self._hurry = self.loop.call_later(HEADERS_S, self.transport.abort)

    def _relax(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None
