"""``cascade serve``: starts the gRPC server and runs it until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from cascade.cli.options import HAZARD, NONE, TINYSAFE, AllowScoreDrift, PolicyFile, Stage1, Stage2, Threads


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
    host: Annotated[str, typer.Option(help="Address to listen on, for gRPC and metrics.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="gRPC port; 0 picks a free one.")] = 50051,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port for Prometheus at /metrics; 0 picks a free one. Default: no metrics port.",
            show_default=False,
        ),
    ] = None,
    insecure_public: Annotated[
        bool,
        typer.Option(
            "--insecure-public",
            help="Listen on an address that other machines reach, although this release has neither TLS nor tokens.",
        ),
    ] = False,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    runtime: Annotated[Runtime, typer.Option(help="What runs the models.")] = Runtime.onnxruntime,
    device: Annotated[Device, typer.Option(help="Where the models run.")] = Device.cpu,
    gpu: Annotated[bool, typer.Option("--gpu", help="Run stage 2 on a GPU: not in this release.")] = False,
    threads: Threads = None,
    allow_score_drift: AllowScoreDrift = False,
    policy: PolicyFile = None,
    max_text_bytes: Annotated[int, typer.Option(min=1, help="UTF-8 bytes that one content may have.")] = 1_000_000,
    max_batch: Annotated[int, typer.Option(min=1, help="Requests that one BatchCheck may have.")] = 256,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Windows of text that may wait for a stage; beyond it calls are refused.")
    ] = 8192,
    drain_s: Annotated[
        float, typer.Option(min=0, help="Seconds that calls under way have to finish on SIGTERM.")
    ] = 10.0,
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged to stderr.")] = LogLevel.info,
) -> None:
    """Serve the cascade over gRPC until SIGTERM or SIGINT.

    When every stage has answered a warm-up, one line goes to stdout:
    `ready grpc=HOST:PORT [metrics=HOST:PORT] stage1=NAME@REVISION stage2=NAME@REVISION`. Logs are JSON on stderr.
    """
    # gRPC's own lines would break the JSON on stderr; what goes wrong there comes back as an exception or a status.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cascade.serve.device import refuse_gpu
    from cascade.serve.endpoint import Endpoint

    if gpu:
        refuse_gpu()
    endpoint = Endpoint(host, port, metrics_port, drain_s)
    if endpoint.is_public and not insecure_public:
        raise typer.BadParameter(
            f"{host} can be reached from other machines, and this release has neither TLS nor tokens: put a proxy that "
            "has them in front of 127.0.0.1, or say --insecure-public if the network itself is guarded",
            param_hint="--host",
        )
    from cascade.build import build_pipeline
    from cascade.limits import Limits
    from cascade.observe import logs
    from cascade.observe.metrics import Metrics
    from cascade.serve import server

    logs.configure(log_level.value)
    load = partial(
        build_pipeline,
        stage1_spec=stage1,
        stage2_spec=None if stage2 == NONE else stage2,
        policy_path=policy,
        limits=Limits(max_text_bytes=max_text_bytes, max_batch=max_batch, max_queued_windows=max_queue),
        threads=threads,
        allow_score_drift=allow_score_drift,
    )
    asyncio.run(server.serve(endpoint, load, Metrics(), announce=partial(print, flush=True)))
