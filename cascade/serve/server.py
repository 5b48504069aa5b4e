"""One process's server: bind -> load -> warm up -> *open* -> drain; and the whole life of a server of one process.

The port is bound first, so that one in use is told before the models load, and nothing is answered before every stage
has answered a warm-up: until then a connection waits in the listening socket.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from cascade.batching import Batcher
from cascade.errors import CascadeError
from cascade.gateways import surfaces
from cascade.live import Live
from cascade.observe.metrics import Metrics
from cascade.pipeline import Pipeline
from cascade.serve.admission import Admission
from cascade.serve.audit import AuditLog
from cascade.serve.calls import Calls, Unary, unary_methods
from cascade.serve.checks import CheckService
from cascade.serve.config import Config
from cascade.serve.coordinator import Control, Coordinator
from cascade.serve.health import HealthServicer
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.models import ModelService, StageService
from cascade.serve.participant import LocalParticipant
from cascade.serve.policies import PolicyService
from cascade.serve.security import LIMITS
from cascade.serve.streams import Streams
from cascade.serve.used import Book
from cascade.v1 import cascade_service_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2

if TYPE_CHECKING:
    from cascade.gateways.listener import Listener

MAX_MESSAGE_BYTES = 16 * 2**20  # well above the limits on text, so that those speak for themselves
OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    # From 1,000 calls on that wait for the event loop gRPC ends some at random, as CANCELLED, which no client repeats.
    # How many are taken is for admission to say, with a reason and a time to come again.
    ("grpc.server.max_pending_requests", 16_384),
    ("grpc.server.max_pending_requests_hard_limit", 32_768),
    ("grpc.keepalive_time_ms", 60_000),  # finds callers that vanished with an open stream
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The default, 5 minutes, would end the connections of callers that ping more often.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
FLUSH_S = 0.5  # for answers that are on their way; after it whoever only watches (health, reflection) is cut off

log = logging.getLogger(__name__)


class Server:
    """The gRPC server of one process, and the HTTP server beside it if there is a port for one.

    Args:
        config: what it is made of.
        metrics: what is counted into.
        shared: other processes may listen on its port, too.
        book: where the processes that share quotas keep them.
    """

    def __init__(self, config: Config, metrics: Metrics, *, shared: bool = False, book: Book | None = None) -> None:
        self.lifecycle = Lifecycle()
        self._config, self._metrics, self._book = config, metrics, book
        self._guard = config.security.guard()
        options = [*OPTIONS, *LIMITS, ("grpc.so_reuseport", int(shared))]  # unasked for, a second server is a mistake
        if config.max_connection_age_s:
            # gRPC itself adds or takes up to a tenth, so that connections made together do not end together. Calls
            # that are under way are not cut: their connection goes when they have ended.
            options.append(("grpc.max_connection_age_ms", round(1000 * config.max_connection_age_s)))
        self._server = grpc.aio.server(options=options)
        self._http = None if config.endpoint.http_port is None else _listener(config)
        self._quiet = False
        self._telemetry = config.observe.telemetry(metrics.registry)
        self._health: HealthServicer | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._adopted: list[Batcher] = []

    def bind(self, port: int) -> str:
        """Listens, without answering yet, and returns the address; port 0 is a free one.

        Raises:
            CascadeError: the address, or the certificate, cannot be used.
        """
        endpoint = self._config.endpoint
        try:
            return endpoint.address(self._config.security.listen(self._server, endpoint.address(port)))
        except RuntimeError:
            raise CascadeError(
                f"cannot listen on {endpoint.address(port)}: the port is in use, or the address is not this machine's. "
                "Choose another with --port (0 picks a free one) or --host."
            ) from None

    def bind_http(self, port: int, *, shared: bool = False) -> str:
        """The same for HTTP, which must have been asked for."""
        assert self._http, "there is a port for it"
        return self._config.endpoint.address(self._http.bind(self._config.endpoint.host, port, shared=shared))

    async def open_http(self) -> None:
        """Lets HTTP clients, probes above all, know that the server is starting."""
        assert self._http, "there is a port for it"
        await self._http.open()

    def adopt(self, pipeline: Pipeline) -> None:
        """Counts what happens in a pipeline, which is about to become the current one."""
        self._metrics.adopt(pipeline)
        for batcher in self._adopted:  # calls still held on the old stages may open their breakers: that is theirs
            if batcher not in pipeline.stages.values():
                batcher.breaker.listeners.pop("health", None)
        self._adopted = list(pipeline.stages.values())
        for name, batcher in pipeline.stages.items():
            batcher.breaker.listeners["health"] = partial(self._tell_later, name)
            self._tell_later(name, not batcher.breaker.is_open)

    async def open(
        self,
        live: Live,
        control: Control,
        audit_log: AuditLog | None = None,
        scrape: Callable[[], Awaitable[CollectorRegistry]] | None = None,
    ) -> None:
        """Adds everything that the server answers to, and starts to answer.

        ``scrape`` gets the metrics of all processes, if there are others.

        Raises:
            CascadeError: the salt of the audit log cannot be used.
        """
        security = self._config.security
        auditor = security.auditor(audit_log, self._metrics.registry) if audit_log else None
        admission = Admission(self._config.admission, self._metrics, self._book)
        checks = CheckService(live, self._metrics, self.lifecycle, admission, auditor)
        services = {
            cascade_service_pb2: checks,
            policy_service_pb2: PolicyService(live, control),
            model_service_pb2: ModelService(live, control),
            stage_service_pb2: StageService(live.hold, admission),
        }
        streams = Streams(security.max_streams, security.stream_idle_s)
        calls = Calls(self._metrics, self.lifecycle, self._guard, auditor, streams, self._telemetry)
        names: list[str] = []
        methods: dict[str, Unary] = {}
        for module, service in services.items():
            for contract in module.DESCRIPTOR.services_by_name.values():
                self._server.add_generic_rpc_handlers((calls.bind(service, contract),))
                names.append(contract.full_name)
                methods |= unary_methods(service, contract)
        others = surfaces.services(
            self._config.surfaces,
            checks,
            auditor,
            ready=lambda: not self._quiet,
            most=lambda: live.pipeline.limits.max_batch,
        )
        for contract, other in others.items():
            self._server.add_generic_rpc_handlers((calls.bind(other, contract),))
            names.append(contract.full_name)
        self._health = HealthServicer([*names, *live.pipeline.stages])
        await self._health.start()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*names, "grpc.health.v1.Health", reflection.SERVICE_NAME], self._server)
        await self._server.start()
        if self._http:
            from cascade.gateways.http import create_app

            self._http.app = create_app(
                methods,
                calls=calls,
                ready=lambda: not self._quiet,
                scrape=scrape or self._scrape,
                max_bytes=self._config.admission.max_bytes,
            )
            await self._http.open()

    async def _scrape(self) -> CollectorRegistry:
        return self._metrics.registry

    def _tell_later(self, name: str, asked: bool) -> None:
        """Health follows a stage's breaker."""
        if self._health:
            task = asyncio.get_running_loop().create_task(self._health.tell(name, asked, "breaker"))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    @staticmethod
    def models(live: Live) -> dict[str, str]:
        """By stage ``NAME@REVISION`` of its model."""
        stages = live.pipeline.stages
        return {name: f"{batcher.stage.info.name}@{batcher.stage.info.revision}" for name, batcher in stages.items()}

    async def tell_stage2(self, serving: bool) -> None:
        """Health says from now on whether stage 2 is there."""
        if self._health:
            await self._health.tell("stage2", serving)

    async def quiet(self) -> None:
        """Health says from now on that nothing is served here, so that nobody new comes."""
        self._quiet = True
        if self._health:
            await self._health.enter_graceful_shutdown()

    async def drain(self, seconds: float) -> None:
        """Takes nothing new, and gives the calls under way this long to end."""
        log.info("draining", extra={"in_flight": self.lifecycle.in_flight, "drain_s": seconds})
        await self.quiet()
        self.lifecycle.drain()
        stopping = [asyncio.create_task(self._server.stop(seconds))]
        if self._http:
            stopping.append(asyncio.create_task(self._http.drain(seconds)))
        try:
            async with asyncio.timeout(seconds):
                await self.lifecycle.idle()
        except TimeoutError:
            log.warning("calls were cut off", extra={"in_flight": self.lifecycle.in_flight})
        await self._server.stop(FLUSH_S)
        await asyncio.wait(stopping, timeout=FLUSH_S)
        if self._http:
            await self._http.close()
        await asyncio.gather(*stopping)
        log.info("stopped")

    async def close(self) -> None:
        """Stops at once."""
        await self._server.stop(None)
        if self._http:
            await self._http.close()
        if self._telemetry:
            await asyncio.to_thread(self._telemetry.close)


async def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Serves from this process until SIGTERM or SIGINT, then drains. A second signal ends the process at once.

    SIGHUP applies what has changed on disk. ``announce`` gets the ready line.

    Raises:
        CascadeError: an address cannot be used, or a model or the policy.
    """
    started, endpoint = perf_counter(), config.endpoint
    stop = stop_on_signal()
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        audit_log = config.security.open_audit_log()
        if audit_log:
            stack.push_async_callback(asyncio.to_thread, audit_log.close)
        server = Server(config, metrics)
        stack.push_async_callback(server.close)
        address = server.bind(endpoint.port)
        ready, places = f"ready grpc={address}", {"grpc": address}
        if endpoint.http_port is not None:
            places["http"] = server.bind_http(endpoint.http_port)
            ready += f" http={places['http']}"
            await server.open_http()
        if endpoint.metrics_port is not None:
            port, stop_metrics = metrics.serve(endpoint.metrics_host, endpoint.metrics_port)
            stack.callback(stop_metrics)
            ready += f" metrics={endpoint.metrics_address(port)}"
        coordinator = Coordinator(config, metrics.registry)
        stack.push_async_callback(coordinator.close)
        participant = LocalParticipant(config.load, server.adopt, server.tell_stage2, coordinator.stage2_hangs)
        stack.push_async_callback(participant.close)
        coordinator.participants.append(participant)
        log.info("loading", extra=places)
        await coordinator.start()
        if stop.is_set():
            return
        await server.open(participant.live, coordinator, audit_log)
        coordinator.follow_stage2()
        names = server.models(participant.live)
        announce(f"{ready} stage1={names['stage1']} stage2={names.get('stage2', 'none')}")
        log.info("ready", extra={"seconds": round(perf_counter() - started, 3), **names})
        await run_until(stop, coordinator)
        await server.drain(endpoint.drain_s)


async def run_until(stop: asyncio.Event, coordinator: Coordinator) -> None:
    """Applies what changes on disk, also on SIGHUP, until it is told to stop."""
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[bool]] = set()

    def on_hangup() -> None:
        task = loop.create_task(coordinator.try_reload("SIGHUP"))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    watching = loop.create_task(coordinator.watch())
    try:
        await stop.wait()
    finally:
        loop.add_signal_handler(signal.SIGHUP, ignore)
        watching.cancel()
        await asyncio.gather(watching, *reloads, return_exceptions=True)


def stop_on_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one finds the system's own handler."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)

    def on_signal() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, ignore)  # until there is something to reload it must not end the process
    return stop


def _listener(config: Config) -> Listener:
    from cascade.gateways.http import waiting_app
    from cascade.gateways.listener import Listener

    return Listener(waiting_app(), config.security.tls, config.max_connection_age_s)


def ignore() -> None:
    """For a signal that means nothing now."""
