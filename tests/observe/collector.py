"""An OpenTelemetry collector that keeps what it gets: OTLP over gRPC on a real socket."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc


class Collector(traces_grpc.TraceServiceServicer):
    def __init__(self):
        self.traces, self.metrics = [], []
        self._server = grpc.server(ThreadPoolExecutor(2))
        traces_grpc.add_TraceServiceServicer_to_server(self, self._server)
        metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request, context):
        self.traces.append(request)
        return traces.ExportTraceServiceResponse()

    def close(self):
        self._server.stop(None).wait()

    def resource(self):
        """What the sender says of itself."""
        attributes = self.traces[0].resource_spans[0].resource.attributes
        return {one.key: one.value.string_value for one in attributes}

    def spans(self, trace_id=None):
        """All spans, or those of one trace, in the order of their starts."""
        found = [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        found = [span for span in found if trace_id is None or span.trace_id.hex() == trace_id]
        return sorted(found, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))

    def wait_for(self, trace_id, seconds=60):
        """The spans of a trace as soon as all are there: the call's own ends last, and they come in that order."""
        until = time.monotonic() + seconds
        while not any(span.kind == span.SPAN_KIND_SERVER for span in self.spans(trace_id)):
            assert time.monotonic() < until, [span.name for span in self.spans(trace_id)]
            time.sleep(0.02)
        return self.spans(trace_id)

    def latest(self):
        """The metrics that came last, by name."""
        (resource,) = self.metrics[-1].resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}


class _Metrics(metrics_grpc.MetricsServiceServicer):
    """A class of its own, for both services call their method Export."""

    def __init__(self, collector):
        self._collector = collector

    def Export(self, request, context):
        self._collector.metrics.append(request)
        return metrics.ExportMetricsServiceResponse()


def facts(span):
    """A span's attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
