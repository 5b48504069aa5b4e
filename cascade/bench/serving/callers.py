"""What sends a text to a server and reads its answer: our own service over gRPC, anybody's JSON over HTTP.

Both keep connections open and make a call with as little as the protocol allows, so that what is compared is servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any

import grpc

from cascade.bench.serving.drive import Answer, CallError, Send
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckOptions, CheckRequest, CheckResponse
from stages.remote.place import Place

OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


@asynccontextmanager
async def grpc_caller(place: Place, *, connections: int = 1, cache: bool = False) -> AsyncIterator[Send]:
    """Calls ``Check`` over so many connections in turn; only with ``cache`` may the server answer from its cache."""
    options = CheckOptions(bypass_cache=not cache)
    async with AsyncExitStack() as stack:
        stubs: list[Any] = [
            CascadeServiceStub(await stack.enter_async_context(_channel(place))) for _ in range(connections)
        ]
        turns = cycle(stubs)

        async def send(text: str) -> Answer:
            try:
                reply = await next(turns).Check(CheckRequest(text=text, options=options), metadata=place.metadata)
            except grpc.RpcError as error:
                raise CallError(error.code().name) from None
            return read_phases(reply)

        yield send


def _channel(place: Place) -> grpc.aio.Channel:
    if not place.secure:
        return grpc.aio.insecure_channel(place.target, OWN_CONNECTION)
    credentials = grpc.ssl_channel_credentials(place.ca, place.key, place.cert)
    return grpc.aio.secure_channel(place.target, credentials, OWN_CONNECTION)


def read_phases(reply: CheckResponse) -> Answer:
    """What the stages report of their time. Stage 1's phases of several windows or views are one report."""
    phases: dict[str, float] = {}
    for stage in reply.stages:
        told = {"queue": stage.queue_ms, "tokenize": stage.tokenize_ms, "infer": stage.infer_ms}
        for name, ms in told.items():
            phases[f"{stage.name} {name}"] = phases.get(f"{stage.name} {name}", 0.0) + ms
    return Answer(phases, reply.route.escalated)


@asynccontextmanager
async def echo_caller(target: str) -> AsyncIterator[Send]:
    """Calls an echo server with the bytes of the request that a check would be."""
    async with grpc.aio.insecure_channel(target, OWN_CONNECTION) as channel:
        echo: Any = channel.unary_unary("/echo.Echo/Echo")

        async def send(text: str) -> Answer:
            try:
                await echo(CheckRequest(text=text).SerializeToString())
            except grpc.RpcError as error:
                raise CallError(error.code().name) from None
            return Answer()

        yield send


@asynccontextmanager
async def http_caller(url: str, body: Callable[[str], object], read: Callable[[Any], object]) -> AsyncIterator[Send]:
    """Posts JSON, over as many kept connections as there are calls open at a time.

    Args:
        url: where to.
        body: a text's request.
        read: takes the reply apart; a LookupError, TypeError, ValueError or StopIteration says that it is no answer.
    """
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=600), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:

        async def send(text: str) -> Answer:
            try:
                async with session.post(url, json=body(text)) as reply:
                    if reply.status != 200:
                        raise CallError(f"HTTP {reply.status}")
                    read(await reply.json(content_type=None))
            except aiohttp.ClientError as error:
                raise CallError(type(error).__name__) from None
            except (LookupError, TypeError, ValueError, StopIteration) as error:
                raise CallError(f"no answer in the reply ({type(error).__name__})") from None
            return Answer()

        yield send
