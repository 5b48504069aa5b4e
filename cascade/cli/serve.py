"""``cascade serve``: starts the gRPC server and runs it until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

NETWORK, MODELS, LIMITS = "Network", "Models", "Limits"


class Runtime(StrEnum):
    """What runs the networks."""

    onnxruntime = "onnxruntime"


class Device(StrEnum):
    """Where the networks run."""

    cpu = "cpu"


class LogLevel(StrEnum):
    """The least that is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(serve)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on, for gRPC and metrics.", rich_help_panel=NETWORK)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="gRPC port; 0 picks a free one.", rich_help_panel=NETWORK)
    ] = 50051,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port for Prometheus at /metrics; 0 picks a free one. Default: no metrics port.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    insecure_public: Annotated[
        bool,
        typer.Option(
            "--insecure-public",
            help="Listen on an address that other machines reach, although this release has neither TLS nor tokens.",
            rich_help_panel=NETWORK,
        ),
    ] = False,
    drain_s: Annotated[
        float,
        typer.Option(min=0, help="Seconds that calls under way have to finish on SIGTERM.", rich_help_panel=NETWORK),
    ] = 10.0,
    stage1: Annotated[
        str, typer.Option(help="Model of stage 1: an embedded name or a model folder.", rich_help_panel=MODELS)
    ] = "tinysafe",
    stage2: Annotated[
        str, typer.Option(help='Model of stage 2, or "none" to serve stage 1 alone.', rich_help_panel=MODELS)
    ] = "hazard",
    runtime: Annotated[
        Runtime, typer.Option(help="What runs the models.", rich_help_panel=MODELS)
    ] = Runtime.onnxruntime,
    device: Annotated[Device, typer.Option(help="Where the models run.", rich_help_panel=MODELS)] = Device.cpu,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Run stage 2 on a GPU: not in this release.", rich_help_panel=MODELS)
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Batches that each stage scores at the same time. Default: the CPUs that the process may use.",
            show_default=False,
            rich_help_panel=MODELS,
        ),
    ] = None,
    allow_score_drift: Annotated[
        bool,
        typer.Option(
            "--allow-score-drift",
            help="Serve although a model scores its golden texts differently on this CPU than where it was calibrated.",
            rich_help_panel=MODELS,
        ),
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option(help="Policy file. Default: the built-in policy.", show_default=False, rich_help_panel=MODELS),
    ] = None,
    max_text_bytes: Annotated[
        int, typer.Option(min=1, help="UTF-8 bytes that one content may have.", rich_help_panel=LIMITS)
    ] = 1_000_000,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Requests that one BatchCheck may have.", rich_help_panel=LIMITS)
    ] = 256,
    max_queue: Annotated[
        int,
        typer.Option(
            min=1,
            help="Windows of text that may wait for a stage; beyond it calls are refused.",
            rich_help_panel=LIMITS,
        ),
    ] = 8192,
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged to stderr.")] = LogLevel.info,
) -> None:
    """Serve the cascade over gRPC until SIGTERM or SIGINT.

    When every stage has answered a warm-up, one line goes to stdout:
    `ready grpc=HOST:PORT [metrics=HOST:PORT] stage1=NAME@REVISION stage2=NAME@REVISION`. Logs are JSON on stderr.
    """
    # gRPC's own lines would break the JSON on stderr; what goes wrong there comes back as an exception or a status.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cascade.build import build_pipeline
    from cascade.limits import Limits
    from cascade.observe import logs
    from cascade.observe.metrics import Metrics
    from cascade.serve import server
    from cascade.serve.device import refuse_gpu

    if gpu:
        refuse_gpu()
    endpoint = server.Endpoint(host, port, metrics_port, drain_s)
    if endpoint.is_public and not insecure_public:
        raise typer.BadParameter(
            f"{host} can be reached from other machines, and this release has neither TLS nor tokens: put a proxy that "
            "has them in front of 127.0.0.1, or say --insecure-public if the network itself is guarded",
            param_hint="--host",
        )
    logs.configure(log_level.value)
    load = partial(
        build_pipeline,
        stage1_spec=stage1,
        stage2_spec=None if stage2 == "none" else stage2,
        policy_path=policy,
        limits=Limits(max_text_bytes=max_text_bytes, max_batch=max_batch, max_queued_windows=max_queue),
        threads=threads,
        allow_score_drift=allow_score_drift,
    )
    asyncio.run(server.serve(endpoint, load, Metrics(), announce=partial(print, flush=True)))
