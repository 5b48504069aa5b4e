"""The client: *contents* -> calls -> *verdicts*; see :mod:`cascade_client.aio` for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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
from cascade_client.connection import Connection
from cascade_client.contents import Content, Item, Options, item_of, request_of, start_of
from cascade_client.errors import from_call
from cascade_client.methods import Methods

TIMEOUT_S = 10.0


class Client:
    """A client of one server, or of one name that stands for several. Threads may share it; close it at the end.

    Args:
        target, token, tls, ca, certificate, options: see :class:`cascade_client.Connection`.
        timeout: seconds that a check, a batch or a question for health may take, repetitions included, unless the call
            says otherwise. Streams have a deadline only if the call gives one.

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
            grpc.secure_channel(target, connection.credentials(), arguments)
            if connection.secure
            else grpc.insecure_channel(target, arguments)
        )
        self._methods = Methods(self._channel)
        self._metadata = connection.metadata
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and what is still under way."""
        self._channel.close()

    def check(
        self, content: Content, *, request_id: str = "", options: Options | None = None, timeout: float | None = None
    ) -> CheckResponse:
        """Judges one content: a text, an exchange, a conversation or its turns, or a whole request."""
        request = request_of(content, request_id, options)
        response: CheckResponse = self._call(self._methods.check, request, timeout)
        return response

    def check_batch(
        self, contents: Iterable[Content], *, options: Options | None = None, timeout: float | None = None
    ) -> list[Item]:
        """Judges several contents; there is an item for each, in their order."""
        request = BatchCheckRequest(requests=[request_of(content, options=options) for content in contents])
        return [item_of(item) for item in self._call(self._methods.batch_check, request, timeout).items]

    def check_stream(
        self, contents: Iterable[Content], *, options: Options | None = None, timeout: float | None = None
    ) -> Generator[Item, None, None]:
        """Judges contents as they come. Items come as they are ready: give requests ids to tell them apart.

        The contents are taken from the iterable on another thread. Closing the generator ends the call.
        """
        requests = (CheckStreamRequest(request=request_of(content, options=options)) for content in contents)
        for message in self._stream(self._methods.check_stream, requests, timeout):
            yield item_of(message)

    def moderate_stream(
        self,
        deltas: Iterable[str],
        *,
        prompt: str = "",
        request_id: str = "",
        options: Options | None = None,
        timeout: float | None = None,
    ) -> Generator[ModerateStreamResponse, None, None]:
        """Judges one generation while it is written; show no more of it than ``released_upto`` code points.

        The deltas are taken from the iterable on another thread. The last state is ``final``: after a block no further
        delta is judged. Closing the generator ends the call.
        """

        def events() -> Iterator[ModerateStreamRequest]:
            yield ModerateStreamRequest(start=start_of(prompt, request_id, options))
            for delta in deltas:
                yield ModerateStreamRequest(delta=delta)
            yield ModerateStreamRequest(end=ModerateEnd())

        yield from self._stream(self._methods.moderate_stream, events(), timeout)

    def healthy(self, service: str = "", *, timeout: float | None = None) -> bool:
        """Whether the server says that it, or one service or stage of it ("stage1", "stage2"), is serving."""
        response = self._call(self._methods.health, HealthCheckRequest(service=service), timeout)
        return bool(response.status == HealthCheckResponse.SERVING)

    def _call(self, method: Callable[..., Any], request: object, timeout: float | None) -> Any:
        try:
            return method(request, timeout=self._timeout if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_call(error) from None

    def _stream(
        self, method: Callable[..., Any], requests: Iterator[Any], timeout: float | None
    ) -> Generator[Any, None, None]:
        failed: list[Exception] = []

        def noting() -> Iterator[Any]:
            """The requests; gRPC would tell of a failure of theirs only that there was one."""
            try:
                yield from requests
            except Exception as error:
                failed.append(error)
                raise

        call = method(noting(), timeout=timeout, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise (failed[0] if failed else from_call(error)) from None
        finally:
            call.cancel()  # without effect on one that has ended
