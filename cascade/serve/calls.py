"""plain async method -> *bind* -> gRPC handler: deadline, errors, metrics and in-flight count, the same for every call.

A unary method is ``async (request, deadline) -> response``; a streaming one is ``async (requests, send, deadline)``.
Both raise what they like: :mod:`cascade.serve.errors` turns it into a status. This is one thin layer and no
interceptor, because it stands in the path of every call.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc.aio import ServicerContext

from cascade.observe.metrics import Metrics
from cascade.serve import errors, wire
from cascade.serve.lifecycle import Lifecycle

Context = ServicerContext[Any, Any]
Unary = Callable[[Any, float | None], Awaitable[Message]]
Streaming = Callable[[AsyncIterator[Any], Callable[[Message], Awaitable[None]], float | None], Awaitable[None]]

log = logging.getLogger(__name__)


class Calls:
    """Turns service objects into gRPC handlers that count into ``metrics`` and ``lifecycle``."""

    def __init__(self, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self._metrics = metrics
        self._lifecycle = lifecycle

    def bind(self, service: object, contract: ServiceDescriptor) -> grpc.GenericRpcHandler:
        """Handlers for every method of the contract; ``service`` has each under its snake_case name."""
        return grpc.method_handlers_generic_handler(
            contract.full_name, {method.name: self._handler(service, method) for method in contract.methods}
        )

    def _handler(self, service: object, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        function = getattr(service, snake_case(method.name))
        name = f"{method.containing_service.full_name}/{method.name}"
        read = wire.reader(message_factory.GetMessageClass(method.input_type))
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(self._streaming(name, function), read, serialize)
        return grpc.unary_unary_rpc_method_handler(self._unary(name, function), read, serialize)

    def _unary(self, name: str, function: Unary) -> Callable[[Any, Context], Awaitable[Message]]:
        async def handle(request: Any, context: Context) -> Message:
            with self._counted(name, context) as outcome:
                try:
                    if isinstance(request, wire.Malformed):
                        raise request.error
                    return await function(request, deadline_of(context))
                except Exception as error:  # noqa: BLE001 - every failure has a status
                    outcome.code = errors.code_of(error)
                    status = errors.to_status(error, method=name, request_id=getattr(request, "request_id", ""))
            return await errors.abort(context, status)

        return handle

    def _streaming(self, name: str, function: Streaming) -> Callable[[AsyncIterator[Any], Context], Awaitable[None]]:
        async def handle(requests: AsyncIterator[Any], context: Context) -> None:
            with self._counted(name, context) as outcome:
                try:
                    return await function(requests, context.write, deadline_of(context))
                except Exception as error:  # noqa: BLE001 - every failure has a status
                    outcome.code = errors.code_of(error)
                    status = errors.to_status(error, method=name, request_id="")
            await errors.abort(context, status)

        return handle

    @contextmanager
    def _counted(self, name: str, context: Context) -> Iterator[_Outcome]:
        outcome = _Outcome()
        try:
            with self._lifecycle.call(), self._metrics.in_flight.track_inprogress():
                yield outcome
        except asyncio.CancelledError:
            outcome.code = grpc.StatusCode.DEADLINE_EXCEEDED if expired(context) else grpc.StatusCode.CANCELLED
            log.info("call ended by its caller", extra={"method": name, "code": outcome.code.name})
            raise
        finally:
            self._metrics.calls.labels(name, outcome.code.name).inc()


class _Outcome:
    """How a call ended."""

    __slots__ = ("code",)

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK


def serialize(message: Message) -> bytes:
    """The message's bytes."""
    return message.SerializeToString()


def deadline_of(context: Context) -> float | None:
    """The caller's deadline on the event loop's clock, in seconds; None if it set none."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None else asyncio.get_running_loop().time() + remaining


def expired(context: Context) -> bool:
    """The caller's deadline has passed."""
    remaining: float | None = context.time_remaining()
    return remaining is not None and remaining <= 0


def snake_case(name: str) -> str:
    """``"BatchCheck"`` -> ``"batch_check"``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
