"""``cascade serve``: starts the gRPC server and runs it until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import os
import re
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.options import HAZARD, NONE, TINYSAFE, AllowScoreDrift, PolicyFile, Stage1, Stage2, Threads

if TYPE_CHECKING:
    from cascade.serve.stage_host import HostedStage

CPU = "cpu"
ADAPTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Runtime(StrEnum):
    """What runs the network of stage 2."""

    onnxruntime = "onnxruntime"
    torch = "torch"


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
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="What runs stage 2: torch runs it in a process of its own. Default: torch on a GPU, else onnxruntime.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where stage 2 runs: cpu, cuda or cuda:N. Stage 1 runs on the CPU.")
    ] = CPU,
    gpu: Annotated[bool, typer.Option("--gpu", help="The same as --device cuda. Needs the extra `gpu`.")] = False,
    gpu_memory_mb: Annotated[
        int | None,
        typer.Option(min=1, help="The most GPU memory that stage 2 takes. Default: all there is.", show_default=False),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="A further adapter of stage 2 for requests that ask for it by name, on torch only: an adapter folder, "
            "or a model folder whose adapter is taken. May be given several times.",
            show_default=False,
        ),
    ] = None,
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
    from cascade.serve.endpoint import Endpoint

    device = "cuda" if gpu and device == CPU else device
    hosted = _hosted(stage2, runtime, device, gpu_memory_mb, adapter or [], threads, log_level)
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
    from cascade.serve.stage_host import StageHost

    logs.configure(log_level.value)
    stage_host = StageHost(hosted) if hosted else None
    load = partial(
        build_pipeline,
        stage1_spec=stage1,
        stage2_spec=None if stage2 == NONE else stage2,
        policy_path=policy,
        limits=Limits(max_text_bytes=max_text_bytes, max_batch=max_batch, max_queued_windows=max_queue),
        threads=threads,
        allow_score_drift=allow_score_drift,
        open_stage2=stage_host.open if stage_host else None,
    )
    asyncio.run(server.serve(endpoint, load, Metrics(), announce=partial(print, flush=True), host=stage_host))


def _hosted(
    stage2: str,
    runtime: Runtime | None,
    device: str,
    memory_mb: int | None,
    adapters: list[str],
    threads: int | None,
    log_level: LogLevel,
) -> HostedStage | None:
    """What is to run in a process of its own; None if stage 2 runs in the server's.

    Raises:
        BadParameter: options contradict each other.
        DependencyError: packages of the torch runtime are missing.
    """
    from cascade.serve.device import DEVICE, require_packages

    if not DEVICE.fullmatch(device):
        raise typer.BadParameter(f"{device} is no device: cpu, cuda or cuda:N is", param_hint="--device")
    on_gpu = device != CPU
    if on_gpu and runtime is Runtime.onnxruntime:
        raise typer.BadParameter("onnxruntime runs on the CPU only: leave it out, or say torch", param_hint="--runtime")
    if memory_mb is not None and not on_gpu:
        raise typer.BadParameter("it bounds a GPU's memory: say --gpu too", param_hint="--gpu-memory-mb")
    if not on_gpu and runtime is not Runtime.torch:
        if adapters:
            raise typer.BadParameter("adapters need --gpu or --runtime torch", param_hint="--adapter")
        return None
    if stage2 == NONE:
        raise typer.BadParameter("without a stage 2 there is nothing to run on torch", param_hint="--stage2")
    require_packages("--gpu" if on_gpu else "--runtime torch")

    from cascade.build import usable_cores
    from cascade.serve.stage_host import HostedStage

    return HostedStage(
        spec=stage2,
        threads=threads or usable_cores(),
        device=device,
        adapters=_adapters(adapters),
        memory_mb=memory_mb,
        log_level=log_level.value,
    )


def _adapters(given: list[str]) -> dict[str, Path]:
    """``["NAME=PATH"]`` -> path by name."""
    found: dict[str, Path] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or not path or not ADAPTER_NAME.fullmatch(name):
            raise typer.BadParameter(
                f"{text}: NAME=PATH is wanted, the name of 1 to 64 letters, digits, - and _", param_hint="--adapter"
            )
        if name in found:
            raise typer.BadParameter(f"two adapters are called {name}", param_hint="--adapter")
        found[name] = Path(path).absolute()
    return found
