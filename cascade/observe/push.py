"""Prometheus metrics -> *to_otlp* -> OTLP data -> a collector, from time to time. Needs the extra `otel`.

What is scraped and what is pushed are the same numbers under the same names, so that one dashboard serves both.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import inf
from time import time_ns

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

CUMULATIVE = AggregationTemporality.CUMULATIVE

log = logging.getLogger(__name__)


class MetricsPush:
    """Exports a registry every ``seconds``, and once more in the end, from a thread of its own."""

    def __init__(
        self, registry: CollectorRegistry, resource: Resource, exporter: MetricExporter, seconds: float
    ) -> None:
        self._registry, self._resource, self._exporter, self._seconds = registry, resource, exporter, seconds
        self._began = time_ns()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cascade-metrics-push", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Exports what there is and stops."""
        self._stop.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(self._seconds)
            try:
                self._exporter.export(to_otlp(self._registry.collect(), self._resource, self._began, time_ns()))
            except Exception:
                log.exception("metrics could not be pushed")  # the next round may do better


def to_otlp(families: Iterable[Family], resource: Resource, began: int, now: int) -> MetricsData:
    """Metric families as OTLP data; ``began`` and ``now`` are nanoseconds since the epoch.

    Counters and histograms count from ``began`` on. Values that are not finite are left out.
    """
    metrics = [metric for family in families for metric in _metrics(family, began, now)]
    scope = ScopeMetrics(InstrumentationScope("cascade"), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metrics(family: Family, began: int, now: int) -> Iterator[Metric]:
    unit = "s" if family.name.endswith("_seconds") else "By" if family.name.endswith("_bytes") else ""
    if family.type == "histogram":
        points = list(_histograms(family.samples, began, now))
        yield Metric(family.name, family.documentation, unit, Histogram(points, CUMULATIVE))
        return
    counts = family.type == "counter"
    numbers = [
        NumberDataPoint(sample.labels, began, now, sample.value)
        for sample in family.samples
        if not sample.name.endswith("_created") and abs(sample.value) < inf
    ]
    data = Sum(numbers, CUMULATIVE, is_monotonic=True) if counts else Gauge(numbers)
    if numbers:
        yield Metric(family.name, family.documentation, unit, data)


def _histograms(samples: Iterable[Sample], began: int, now: int) -> Iterator[HistogramDataPoint]:
    """One point for each set of labels; Prometheus counts up from bucket to bucket, OTLP within each."""
    cumulative: dict[frozenset[tuple[str, str]], dict[float, float]] = {}
    sums: dict[frozenset[tuple[str, str]], float] = {}
    for sample in samples:
        labels = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            cumulative.setdefault(labels, {})[float(sample.labels["le"])] = sample.value
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, buckets in cumulative.items():
        bounds = sorted(buckets)
        counts = [int(after - before) for before, after in pairwise([0.0, *(buckets[bound] for bound in bounds)])]
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=began,
            time_unix_nano=now,
            count=sum(counts),
            sum=sums[labels],
            bucket_counts=counts,
            explicit_bounds=bounds[:-1],  # the last one is infinity, which goes without saying
            min=None,  # type: ignore[arg-type] # OTLP takes none, and Prometheus knows none
            max=None,  # type: ignore[arg-type]
        )
