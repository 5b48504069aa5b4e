"""The server's life: bind -> load -> warm up -> serve -> drain.

The port is bound first, so that one in use is told before the models load, and nothing is answered before every stage
has answered a warm-up: until then a connection waits in the listening socket.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from time import perf_counter

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cascade.errors import CascadeError
from cascade.observe.metrics import Metrics
from cascade.pipeline import Pipeline
from cascade.serve.calls import Calls
from cascade.serve.checks import CheckService
from cascade.serve.endpoint import Endpoint
from cascade.serve.health import HealthServicer
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.models import ModelService, StageService
from cascade.serve.policies import PolicyService
from cascade.serve.stage_host import StageHost
from cascade.v1 import cascade_service_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2
from cascade.v1.check_pb2 import CheckRequest

MAX_MESSAGE_BYTES = 16 * 2**20  # well above the limits on text, so that those speak for themselves
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not a helper
    ("grpc.keepalive_time_ms", 60_000),  # finds callers that vanished with an open stream
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The default, 5 minutes, would end the connections of callers that ping more often.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
FLUSH_S = 0.5  # for answers that are on their way; after it whoever only watches (health, reflection) is cut off
WARM_UP = "Is the kettle still on?"

log = logging.getLogger(__name__)


async def serve(
    endpoint: Endpoint,
    load: Callable[[], Pipeline],
    metrics: Metrics,
    announce: Callable[[str], None],
    host: StageHost | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once.

    Args:
        endpoint: where to listen.
        load: makes the pipeline; runs on a thread.
        metrics: what is counted into.
        announce: gets the ready line.
        host: what ``load`` opens a stage with that runs in a process of its own; it is stopped in the end.

    Raises:
        CascadeError: an address cannot be used, or whatever ``load`` and the warm-up raise.
    """
    started = perf_counter()
    stop = _stop_on_signal()
    async with AsyncExitStack() as stack:
        server = grpc.aio.server(options=OPTIONS)
        stack.push_async_callback(server.stop, None)
        address = endpoint.address(_bind(server, endpoint))
        ready = f"ready grpc={address}"
        if endpoint.metrics_port is not None:
            port, stop_metrics = metrics.serve(endpoint.host, endpoint.metrics_port)
            stack.callback(stop_metrics)
            ready += f" metrics={endpoint.address(port)}"
        if host is not None:
            stack.push_async_callback(asyncio.to_thread, host.stop)
        log.info("loading", extra={"grpc": address})
        pipeline = await asyncio.to_thread(load)
        stack.push_async_callback(pipeline.close)
        await _warm_up(pipeline)
        gc.collect()
        gc.freeze()  # what is loaded stays: the collector need not walk it again while calls wait
        lifecycle = Lifecycle()
        servicer = await _add_services(server, pipeline, metrics, lifecycle)
        if host is not None:
            servicer.follow(host)
        if stop.is_set():
            return
        await server.start()
        models = {name: batcher.stage.info for name, batcher in pipeline.stages.items()}
        names = {name: f"{info.name}@{info.revision}" for name, info in models.items()}
        announce(f"{ready} stage1={names['stage1']} stage2={names.get('stage2', 'none')}")
        log.info("ready", extra={"seconds": round(perf_counter() - started, 3), **names})
        await stop.wait()
        await _drain(server, servicer, lifecycle, endpoint.drain_s)


def _stop_on_signal() -> asyncio.Event:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    return stop


def _bind(server: grpc.aio.Server, endpoint: Endpoint) -> int:
    try:
        return server.add_insecure_port(endpoint.address(endpoint.port))
    except RuntimeError:
        where = endpoint.address(endpoint.port)
        raise CascadeError(
            f"cannot listen on {where}: the port is in use, or the address is not this machine's. "
            "Choose another with --port (0 picks a free one) or --host."
        ) from None


async def _warm_up(pipeline: Pipeline) -> None:
    for batcher in pipeline.stages.values():
        await batcher.score(batcher.stage.encode(WARM_UP).windows)
    await pipeline.check(CheckRequest(text=WARM_UP))


async def _add_services(
    server: grpc.aio.Server, pipeline: Pipeline, metrics: Metrics, lifecycle: Lifecycle
) -> HealthServicer:
    """Adds everything that the server answers to, and returns the health service."""
    stages = pipeline.stages
    files = {name: batcher.stage.info.files for name, batcher in stages.items()}
    services = {
        cascade_service_pb2: CheckService(pipeline, metrics, lifecycle),
        policy_service_pb2: PolicyService(pipeline.policies, files),
        model_service_pb2: ModelService(stages),
        stage_service_pb2: StageService(stages, pipeline.limits),
    }
    calls = Calls(metrics, lifecycle)
    names = []
    for module, service in services.items():
        for contract in module.DESCRIPTOR.services_by_name.values():
            server.add_generic_rpc_handlers((calls.bind(service, contract),))
            names.append(contract.full_name)
    for name, batcher in stages.items():
        metrics.watch(name, batcher)
    servicer = HealthServicer([*names, *stages])
    await servicer.start()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection([*names, "grpc.health.v1.Health", reflection.SERVICE_NAME], server)
    return servicer


async def _drain(server: grpc.aio.Server, servicer: HealthServicer, lifecycle: Lifecycle, seconds: float) -> None:
    log.info("draining", extra={"in_flight": lifecycle.in_flight, "drain_s": seconds})
    await servicer.enter_graceful_shutdown()
    lifecycle.drain()
    stopping = asyncio.create_task(server.stop(seconds))
    try:
        async with asyncio.timeout(seconds):
            await lifecycle.idle()
    except TimeoutError:
        log.warning("calls were cut off", extra={"in_flight": lifecycle.in_flight})
    await server.stop(FLUSH_S)
    await stopping
    log.info("stopped")
