"""What the service counts, for Prometheus: calls, latency by phase, routes, verdicts, batches, queues.

Everything is read off the answers and the batchers, so that the pipeline itself knows nothing of metrics. Label values
come from enums and model names only: no caller can make a new time series.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from cascade.batching import Batcher, BatchStats
from cascade.errors import CascadeError
from cascade.observe.state import State
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import CheckResponse, RouteReason, Verdict

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The service's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.state = State()
        registry.register(self.state)
        self.calls = Counter(
            "cascade_requests", "Calls by method and gRPC code.", ["method", "code"], registry=registry
        )
        self.call_seconds = Histogram(
            "cascade_request_seconds",
            "Time of calls by method, from their arrival to their answer; of a stream to its end.",
            ["method"],
            buckets=SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("cascade_requests_in_flight", "Calls that are being answered.", registry=registry)
        self.items = Counter(
            "cascade_items", "Contents of batches and streams by code.", ["method", "code"], registry=registry
        )
        self.latency = Histogram(
            "cascade_latency_seconds",
            "Time of checks by stage (stage1, stage2, all) and phase (tokenize, queue, infer, total).",
            ["stage", "phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self.verdicts = Counter("cascade_verdicts", "Checks by verdict.", ["verdict"], registry=registry)
        self.escalations = Counter("cascade_escalations", "Checks that wanted stage 2.", ["reason"], registry=registry)
        self.triggers = Counter("cascade_triggers", "Triggers that fired, by name.", ["trigger"], registry=registry)
        self.hazards = Counter("cascade_hazards_flagged", "Flagged hazards by slug.", ["hazard"], registry=registry)
        self.truncated = Counter("cascade_truncated", "Checks that left something unread.", registry=registry)
        self.overrides = Counter(
            "cascade_overrides", "Checks whose outcome a rule of the policy changed.", ["rule"], registry=registry
        )
        self.degraded = Counter(
            "cascade_degraded", "Checks without the whole cascade, by what was missing.", ["reason"], registry=registry
        )
        self.batches = Histogram(
            "cascade_batch_windows", "Windows scored at once.", ["stage"], buckets=WINDOWS, registry=registry
        )
        self.halvings = Counter(
            "cascade_stage_oom_halvings",
            "Batches that a stage halved because its device had no memory for them.",
            ["stage"],
            registry=registry,
        )
        self.refused = Counter(
            "cascade_refused",
            "Contents that were refused for want of room, time or quota.",
            ["reason"],
            registry=registry,
        )
        self.breakers = Counter(
            "cascade_stage_breaker_opened", "Times that a stage was no longer asked.", ["stage"], registry=registry
        )
        self.asked = Gauge(
            "cascade_stage_asked", "1 if the stage is asked, 0 while its breaker is open.", ["stage"], registry=registry
        )
        self.queue = Gauge("cascade_queue_windows", "Windows that wait for a stage.", ["stage"], registry=registry)

    def observe(self, response: CheckResponse, seconds: float) -> None:
        """Counts an answered check that took ``seconds`` in all."""
        self.latency.labels("all", "total").observe(seconds)
        for stage in response.stages:
            phases = {"tokenize": stage.tokenize_ms, "queue": stage.queue_ms, "infer": stage.infer_ms}
            if total := sum(phases.values()):  # else the answer was there already, and the stage was not asked
                for phase, milliseconds in (phases | {"total": total}).items():
                    self.latency.labels(stage.name, phase).observe(milliseconds / 1000)
        self.verdicts.labels(Verdict.Name(response.verdict)).inc()
        if response.route.escalated:
            self.escalations.labels(RouteReason.Name(response.route.reason)).inc()
        for hazard in response.hazards:
            if hazard.flagged:
                self.hazards.labels(hazard.slug).inc()
        if response.coverage.truncated:
            self.truncated.inc()
        for trigger in response.route.triggers:
            self.triggers.labels(trigger).inc()
        if response.override_rule:
            self.overrides.labels(response.override_rule).inc()
        if response.degraded:
            self.degraded.labels(response.degraded_reason).inc()
        self.state.observe(response)

    def ended(self, method: str, code: str, seconds: float) -> None:
        """Counts a call that has ended."""
        self.calls.labels(method, code).inc()
        self.call_seconds.labels(method).observe(seconds)

    def adopt(self, pipeline: Pipeline) -> None:
        """Counts what happens in a pipeline from now on, and tells of its state."""
        for stage, batcher in pipeline.stages.items():
            self.watch(stage, batcher)
        self.state.adopt(pipeline)

    def watch(self, stage: str, batcher: Batcher) -> None:
        """Counts a stage's batches from now on, and reads its queue whenever the metrics are scraped."""
        sizes, halvings = self.batches.labels(stage), self.halvings.labels(stage)
        counted = batcher.oom_halvings

        def count(batch: BatchStats) -> None:
            nonlocal counted
            sizes.observe(batch.windows)
            before, counted = counted, batcher.oom_halvings
            halvings.inc(counted - before)

        def note(asked: bool) -> None:
            self.breakers.labels(stage).inc(not asked)

        batcher.on_batch = count
        batcher.breaker.listeners["metrics"] = note
        self.breakers.labels(stage)
        self.asked.labels(stage).set_function(lambda: not batcher.breaker.is_open)
        self.queue.labels(stage).set_function(lambda: batcher.queued_windows)

    def serve(self, host: str, port: int) -> tuple[int, Callable[[], None]]:
        """As :func:`serve`."""
        return serve(self.registry, host, port)


def serve(registry: CollectorRegistry, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Serves ``/metrics`` from a thread; returns the port (chosen by the system if it was 0) and what stops it.

    Raises:
        CascadeError: the address cannot be used.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise CascadeError(f"cannot serve metrics on {host}:{port}: {error.strerror or error}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_port, stop
