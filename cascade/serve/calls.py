"""plain async method -> *bind* -> gRPC handler: guard, deadline, errors, audit, metrics, the same for every call.

A unary method is ``async (request, call) -> response``; a streaming one is ``async (requests, send, call)``.
Both raise what they like: :mod:`cascade.serve.errors` turns it into a status. This is one thin layer and no
interceptor, because it stands in the path of every call. Nothing is parsed before the guard has let the caller in.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from cascade.observe.logs import ACCESS
from cascade.observe.metrics import Metrics
from cascade.serve import errors, wire
from cascade.serve.auditing import Auditor
from cascade.serve.guard import Guard, open_guard
from cascade.serve.identity import Call, Context, address_of, chosen
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.streams import Streams
from cascade.v1.cascade_service_pb2 import BatchCheckRequest

CONTRACT = "cascade.v1"
GENERATIONS = "cascade.v1.CascadeService/ModerateStream"

Unary = Callable[[Any, Call], Awaitable[Message]]
Streaming = Callable[[AsyncIterator[Any], Callable[[Message], Awaitable[None]], Call], Awaitable[None]]
Handler = Callable[[Any, Any], Awaitable[Message]]
StreamHandler = Callable[[Any, Any], Awaitable[None]]

log = logging.getLogger(__name__)
access = logging.getLogger(ACCESS)


class Tracing(Protocol):
    """What puts calls into traces: :class:`cascade.observe.telemetry.Telemetry`."""

    def unary(self, method: str, handler: Handler) -> Handler:
        """The handler with a span around each call."""

    def streaming(self, method: str, handler: StreamHandler) -> StreamHandler:
        """The same for a streaming handler."""


class Calls:
    """Turns service objects into gRPC handlers, and their methods into handlers for other ways to call them.

    Args:
        metrics: what is counted into.
        lifecycle: knows what is under way.
        guard: who is let in.
        auditor: keeps records of what was answered; None keeps none.
        streams: bounds on streams.
        tracing: puts each call into a trace; None traces nothing.
    """

    def __init__(
        self,
        metrics: Metrics,
        lifecycle: Lifecycle,
        guard: Guard = open_guard,
        auditor: Auditor | None = None,
        streams: Streams | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._metrics = metrics
        self._lifecycle = lifecycle
        self.guard = guard
        self._auditor = auditor
        self._streams = streams or Streams()
        self._tracing = tracing

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
            stream = self._streaming(name, function, read)
            stream = self._tracing.streaming(name, stream) if self._tracing else stream
            return grpc.stream_stream_rpc_method_handler(stream, None, serialize)
        return grpc.unary_unary_rpc_method_handler(self.unary(name, function, read), None, serialize)

    def unary(self, method: str, function: Unary, read: Callable[[Any], Message | wire.Malformed]) -> Handler:
        """A handler of ``(data, context)``, where ``read`` makes the request of the data, for a method by its name."""
        handler = self._unary(method, function, read)
        return self._tracing.unary(method, handler) if self._tracing else handler

    def _unary(self, method: str, function: Unary, read: Callable[[Any], Message | wire.Malformed]) -> Handler:
        async def handle(data: Any, context: Context) -> Message:
            call, request = Call(peer=address_of(context.peer())), None
            with self._counted(method, context) as outcome:
                try:
                    call = self._admit(context, method, call.peer)
                    outcome.call, outcome.request = call, (request := read(data))
                    if isinstance(request, wire.Malformed):
                        raise request.error
                    response = await function(request, call)
                    if self._auditor and _has_record(request):
                        await self._auditor.record(method, call, request, response)
                    return response
                except Exception as error:  # noqa: BLE001 - every failure has a status
                    status = await self._refuse(error, outcome, method, call, request)
            return await errors.abort(context, status)

        return handle

    def _streaming(self, method: str, function: Streaming, read: wire.Reader) -> StreamHandler:
        async def handle(requests: AsyncIterator[bytes], context: Context) -> None:
            call = Call(peer=address_of(context.peer()))
            with self._counted(method, context) as outcome:
                try:
                    outcome.call = call = self._admit(context, method, call.peer)
                    async with self._streams.open(call.caller) as stream:
                        send, heard = stream.sender(context.write), None
                        if self._auditor and method == GENERATIONS:
                            generation = self._auditor.generation(method, call, send)
                            send, heard = generation.send, generation.heard
                        return await function(stream.incoming(requests, read, heard), send, call)
                except Exception as error:  # noqa: BLE001 - every failure has a status
                    status = await self._refuse(error, outcome, method, call, None)
            await errors.abort(context, status)

        return handle

    def _admit(self, context: Context, method: str, peer: str) -> Call:
        identity = self.guard(context, method)
        said = chosen(context.invocation_metadata() or ())
        return Call(deadline_of(context), identity.name, identity.scopes, identity.quota, peer, said)

    async def _refuse(
        self, error: Exception, outcome: _Outcome, method: str, call: Call, request: Message | wire.Malformed | None
    ) -> Status:
        """The status of a failed call; counted, logged and recorded."""
        outcome.code = errors.code_of(error)
        request_id = getattr(request, "request_id", "")
        status = errors.to_status(error, method=method, request_id=request_id)
        if self._auditor:
            await self._auditor.refused(method, call, request if _is_own(request) else None, error, request_id)
        return status

    @contextmanager
    def _counted(self, name: str, context: Context) -> Iterator[_Outcome]:
        outcome, started = _Outcome(), perf_counter()
        try:
            with self._lifecycle.call(), self._metrics.in_flight.track_inprogress():
                yield outcome
        except asyncio.CancelledError:
            outcome.code = grpc.StatusCode.DEADLINE_EXCEEDED if expired(context) else grpc.StatusCode.CANCELLED
            log.info("call ended by its caller", extra={"method": name, "code": outcome.code.name})
            raise
        finally:
            seconds = perf_counter() - started
            # The answer goes out first: whoever waits for it need not wait for the books to be kept.
            asyncio.get_running_loop().call_soon(self._metrics.ended, name, outcome.code.name, seconds)
            if access.isEnabledFor(logging.INFO):
                access.info("call", extra=outcome.facts(name, context, seconds))


class _Outcome:
    """How a call ended, and as far as they are known who made it and for what."""

    __slots__ = ("call", "code", "request")

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK
        self.call: Call | None = None
        self.request: object = None

    def facts(self, method: str, context: Context, seconds: float) -> dict[str, object]:
        """What the access log has of it. A request that came without an id has got one by now."""
        return {
            "method": method,
            "code": self.code.name,
            "caller": self.call.caller if self.call else "",
            "peer": address_of(context.peer()),
            "request_id": getattr(self.request, "request_id", "")[: errors.MOST_ID],
            "seconds": round(seconds, 6),
        }


def _has_record(request: Message) -> bool:
    """Whether a call has a record as a whole: of a batch, and of what came by another protocol, the contents do."""
    return _is_own(request) and not isinstance(request, BatchCheckRequest)


def _is_own(request: Message | wire.Malformed | None) -> bool:
    """Whether a request is of our contract; one of another may hold a proxy's headers, which no record needs."""
    return isinstance(request, Message) and request.DESCRIPTOR.file.package == CONTRACT


def unary_methods(service: object, contract: ServiceDescriptor) -> dict[str, Unary]:
    """By ``package.Service/Method`` what a service has for the unary methods of its contract."""
    return {
        f"{contract.full_name}/{method.name}": getattr(service, snake_case(method.name))
        for method in contract.methods
        if not method.client_streaming
    }


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
