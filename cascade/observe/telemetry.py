"""OpenTelemetry: *calls* -> spans, *Prometheus metrics* -> OTLP, both pushed to a collector. Needs the extra `otel`.

A call is a server span, within the caller's trace if its metadata have a W3C ``traceparent``; each content is a span
``check`` within it, with a span for each stage that was asked, and in that one for each phase. Spans hold ids, names
and numbers: no text, and of an exception its type alone. What the SDK's environment variables set (sampling, headers,
certificates, the service's name) holds here too.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from time import perf_counter, time
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.message import Message
from opentelemetry.context import Context as TraceContext
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry

from cascade.errors import CascadeError
from cascade.observe.push import MetricsPush
from cascade.observe.state import own_version
from cascade.tracing import CURRENT, Fact, StageTimes

SERVERS_FAULT = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
PUSH_S = 60.0
FLUSH_S = 3.0

Handler = Callable[[Any, Any], Awaitable[Message]]
StreamHandler = Callable[[Any, Any], Awaitable[None]]


class Telemetry:
    """Pushes spans and metrics to an OTLP collector until it is closed.

    Args:
        registry: the metrics that are pushed; their names are those of Prometheus.
        endpoint: the collector, for instance "http://127.0.0.1:4317"; empty for what the environment says.
    """

    def __init__(self, registry: CollectorRegistry, endpoint: str = "") -> None:
        facts = {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "cascade"),
            "service.version": own_version(),
            "service.instance.id": str(uuid4()),
        }
        resource = Resource.create(facts)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporters: list[OTLPSpanExporter | OTLPMetricExporter] = []
        if _wanted("OTEL_TRACES_EXPORTER"):
            spans = OTLPSpanExporter(endpoint or None)
            self._provider.add_span_processor(BatchSpanProcessor(spans))
            self._exporters.append(spans)
        self._tracer = self._provider.get_tracer("cascade")
        self._propagator = TraceContextTextMapPropagator()
        self._push: MetricsPush | None = None
        if _wanted("OTEL_METRICS_EXPORTER"):
            seconds = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", 1000 * PUSH_S)) / 1000
            metrics = OTLPMetricExporter(endpoint or None)
            self._push = MetricsPush(registry, resource, metrics, seconds)
            self._exporters.append(metrics)

    def unary(self, method: str, handler: Handler) -> Handler:
        """The handler with a server span around each call; ``method`` is ``package.Service/Method``."""

        async def traced(request: Any, context: Any) -> Message:
            with self._call(method, context):
                return await handler(request, context)

        return traced

    def streaming(self, method: str, handler: StreamHandler) -> StreamHandler:
        """The same for a streaming handler."""

        async def traced(requests: AsyncIterator[Any], context: Any) -> None:
            with self._call(method, context):
                await handler(requests, context)

        return traced

    def close(self) -> None:
        """Pushes what is left. Blocks, for a few seconds at most: what the collector has not taken then is lost."""
        alarms = [Timer(FLUSH_S, exporter.shutdown) for exporter in self._exporters]
        for alarm in alarms:
            alarm.start()
        self._provider.shutdown()
        if self._push:
            self._push.close()
        for alarm in alarms:
            alarm.cancel()

    @contextmanager
    def _call(self, method: str, context: Any) -> Iterator[None]:
        sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        service, _, name = method.partition("/")
        facts: dict[str, Fact] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        parent = self._propagator.extract(sent, TraceContext())
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes=facts)
        token = CURRENT.set(_Span(self._tracer, span))
        code = grpc.StatusCode.OK
        try:
            yield
        except BaseException:
            code = _code(context)
            raise
        finally:
            CURRENT.reset(token)
            span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code in SERVERS_FAULT:
                span.set_status(Status(StatusCode.ERROR, code.name))
            span.end()


class _Span:
    """A span of the SDK as :class:`cascade.tracing.Span`."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span
        self._context = set_span_in_context(span, TraceContext())

    @property
    def trace_id(self) -> str:
        """See :attr:`cascade.tracing.Span.trace_id`."""
        return format_trace_id(self._span.get_span_context().trace_id)

    @contextmanager
    def child(self, name: str, **facts: Fact) -> Iterator[None]:
        """See :meth:`cascade.tracing.Span.child`."""
        span = self._tracer.start_span(name, self._context)
        inner = _Span(self._tracer, span)
        inner.note(**facts)
        token = CURRENT.set(inner)
        try:
            yield
        except BaseException as error:
            reason = error.reason if isinstance(error, CascadeError) else type(error).__name__
            span.set_status(Status(StatusCode.ERROR, reason))
            raise
        finally:
            CURRENT.reset(token)
            span.end()

    def note(self, **facts: Fact) -> None:
        """See :meth:`cascade.tracing.Span.note`."""
        self._span.set_attributes({name.replace("__", "."): fact for name, fact in facts.items()})

    def stage(self, times: StageTimes) -> None:
        """See :meth:`cascade.tracing.Span.stage`."""
        offset = time() - perf_counter()  # from here to the clock of spans
        phases = {"tokenize": times.tokenize_ms, "queue": times.queue_ms, "infer": times.infer_ms}
        start = _nanoseconds(times.began + offset)
        facts: dict[str, Fact] = {"cascade.model": times.model, "cascade.windows": times.windows}
        stage = self._tracer.start_span(times.stage, self._context, attributes=facts, start_time=start)
        within = set_span_in_context(stage, TraceContext())
        for name, milliseconds in phases.items():
            end = start + _nanoseconds(milliseconds / 1000)
            self._tracer.start_span(name, within, start_time=start).end(end)
            start = end
        stage.end(start)


def _code(context: Any) -> grpc.StatusCode:
    """How a call ended that did not end well: as it was aborted, or cancelled before that."""
    code = context.code()
    if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK:
        return code
    return next((known for known in grpc.StatusCode if code and known.value[0] == code), grpc.StatusCode.CANCELLED)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _wanted(variable: str) -> bool:
    return os.environ.get(variable) != "none"
