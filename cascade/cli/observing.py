"""The options of ``serve`` on answers that are kept and on what is told: cache, metrics, access log, OpenTelemetry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.extras import needs_extra

if TYPE_CHECKING:
    from cascade.observe.settings import Observe

ENDPOINTS = [f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT" for signal in ("", "_TRACES", "_METRICS")]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port for Prometheus at /metrics; 0 picks a free one. Default: no metrics port.",
        show_default=False,
    ),
]
MetricsHost = Annotated[
    str, typer.Option(help="Address for the metrics, which are plain HTTP for whoever reaches it; no texts.")
]
CacheEntries = Annotated[
    int,
    typer.Option(
        min=0,
        help="Answers that are kept for contents that come again, and shared by equal ones under way; 0 keeps and "
        "shares none.",
    ),
]
CacheMb = Annotated[int, typer.Option(min=1, help="Megabytes that the kept answers may take.")]
AccessLog = Annotated[
    bool, typer.Option("--access-log", help="Log a line for each call: method, code, caller, request id, seconds.")
]
OtelEndpoint = Annotated[
    str | None,
    typer.Option(
        help="Push traces and metrics to this OpenTelemetry collector (OTLP over gRPC), for instance "
        "http://127.0.0.1:4317. Needs the extra `otel`. Default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else none.",
        show_default=False,
    ),
]


def observe(access_log: bool, otel_endpoint: str | None) -> Observe:
    """The settings that the options make.

    Raises:
        DependencyError: a collector is named and the extra `otel` is not installed.
    """
    from cascade.observe.settings import Observe

    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    otel = otel_endpoint is not None or (not disabled and any(os.environ.get(name) for name in ENDPOINTS))
    if otel:
        with needs_extra("otel"):
            import cascade.observe.telemetry  # noqa: F401 - missing packages are told before anything starts
    return Observe(access_log, otel, otel_endpoint or "")
