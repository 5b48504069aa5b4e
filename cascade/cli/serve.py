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

from cascade.cli import gateways, observing
from cascade.cli import security as guards
from cascade.cli.options import HAZARD, NONE, TINYSAFE, AllowScoreDrift, PolicyFile, Stage1, Stage2, Threads, named
from cascade.cli.runtimes import CpuRuntime, Runtime, Stage1Runtime, Stage2Runtime, chosen, require_openvino

if TYPE_CHECKING:
    from cascade.serve.stage_host import HostedStage

CPU = "cpu"
CONNECTION_AGE_S = 300.0
ADAPTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Dtype(StrEnum):
    """In which numbers torch computes."""

    float32 = "float32"
    bfloat16 = "bfloat16"


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
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="gRPC port; 0 picks a free one.")] = 50051,
    metrics_port: observing.MetricsPort = None,
    metrics_host: observing.MetricsHost = "127.0.0.1",
    http_port: gateways.HttpPort = None,
    envoy: gateways.Envoy = False,
    envoy_headers_only: gateways.EnvoyHeadersOnly = False,
    open_inference: gateways.OpenInference = False,
    insecure_public: guards.InsecurePublic = False,
    insecure_metrics: guards.InsecureMetrics = False,
    tls_cert: guards.TlsCert = None,
    tls_key: guards.TlsKey = None,
    tls_client_ca: guards.TlsClientCa = None,
    token_file: guards.TokenFile = None,
    stage1: Stage1 = TINYSAFE,
    stage2: Stage2 = HAZARD,
    runtime: Stage2Runtime = None,
    stage1_runtime: Stage1Runtime = CpuRuntime.onnxruntime,
    device: Annotated[
        str, typer.Option(help="Where stage 2 runs: cpu, cuda or cuda:N. Stage 1 runs on the CPU.")
    ] = CPU,
    dtype: Annotated[
        Dtype | None,
        typer.Option(
            help="In which numbers torch computes stage 2. Default: bfloat16 on a GPU that has it, else float32.",
            show_default=False,
        ),
    ] = None,
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
    watch: Annotated[
        bool,
        typer.Option(help="Apply a policy file and model folders that change on disk, as SIGHUP does."),
    ] = True,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder that keeps the policies that were applied, so that they outlive the server, and tells which "
            "models were loaded. Default: they are kept in memory.",
            show_default=False,
        ),
    ] = None,
    max_text_bytes: Annotated[int, typer.Option(min=1, help="UTF-8 bytes that one content may have.")] = 1_000_000,
    max_batch: Annotated[int, typer.Option(min=1, help="Requests that one BatchCheck may have.")] = 256,
    max_queue: Annotated[
        int, typer.Option(min=1, help="Windows of text that may wait for a stage; beyond it calls are refused.")
    ] = 8192,
    max_streams: guards.MaxStreams = 1000,
    stream_idle_s: guards.StreamIdleS = 300.0,
    audit_log: guards.AuditLog = None,
    audit_level: guards.AuditLevelOption = guards.AuditLevel.metadata,
    audit_fsync: guards.AuditFsyncOption = guards.AuditFsync.interval,
    audit_max_mb: guards.AuditMaxMb = 100,
    audit_keep: guards.AuditKeep = 0,
    audit_on_error: guards.AuditOnErrorOption = guards.AuditOnError.refuse,
    audit_salt: guards.AuditSalt = None,
    stage_timeout_s: Annotated[
        float,
        typer.Option(
            min=0.001, help="Seconds that a stage may take for a batch; beyond it the stage counts as failed."
        ),
    ] = 30.0,
    max_in_flight: Annotated[
        int, typer.Option(min=1, help="Contents under way at a time, at most half of them in bulk; beyond it: refused.")
    ] = 1024,
    max_in_flight_mb: Annotated[
        int, typer.Option(min=1, help="Megabytes of requests under way at a time; beyond it calls are refused.")
    ] = 64,
    target_wait_ms: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Milliseconds that a content should wait for a stage under the heaviest load: the more a server has "
            "to refuse, the nearer to this it keeps its queues; with less to do they may grow to 400 milliseconds.",
        ),
    ] = 15.0,
    caller_rate: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Contents a second that one caller may send. Default: no bound.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that answer. Several share the port, one process of stage 2, quotas, audit and metrics; "
            "one that dies is started again. --threads is for all of them together.",
        ),
    ] = 1,
    max_connection_age_s: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds after which a connection is asked to be made anew, give or take a tenth, so that it may come "
            f"to another process; 0 for never. Default: {CONNECTION_AGE_S:g} with several workers, else never.",
            show_default=False,
        ),
    ] = None,
    drain_s: Annotated[
        float, typer.Option(min=0, help="Seconds that calls under way have to finish on SIGTERM.")
    ] = 10.0,
    cache_entries: observing.CacheEntries = 16_384,
    cache_mb: observing.CacheMb = 32,
    otel_endpoint: observing.OtelEndpoint = None,
    access_log: observing.AccessLog = False,
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged to stderr.")] = LogLevel.info,
) -> None:
    """Serve the cascade over gRPC until SIGTERM or SIGINT.

    When every stage has answered a warm-up, one line goes to stdout:
    `ready grpc=HOST:PORT [http=HOST:PORT] [metrics=HOST:PORT] stage1=NAME@REVISION stage2=NAME@REVISION`. Logs are
    JSON on stderr.
    """
    # gRPC's own lines would break the JSON on stderr; what goes wrong there comes back as an exception or a status.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from cascade.serve.endpoint import Endpoint

    device = "cuda" if gpu and device == CPU else device
    hosted = _hosted(stage2, runtime, device, dtype, gpu_memory_mb, adapter or [], threads, log_level)
    require_openvino(stage1_runtime, "--stage1-runtime")
    require_openvino(runtime, "--runtime")
    gateways.require_http(http_port)
    endpoint = Endpoint(host, port, metrics_port, drain_s, metrics_host, http_port)
    guards.check_public(endpoint, tls_cert, insecure_public, insecure_metrics)
    audit = guards.Audit(audit_log, audit_level, audit_fsync, audit_max_mb, audit_keep, audit_on_error, audit_salt)
    tls = guards.tls_files(tls_cert, tls_key, tls_client_ca)
    told = observing.observe(access_log, otel_endpoint)
    from cascade.build import build_pipeline
    from cascade.cores import usable_cores
    from cascade.limits import Limits
    from cascade.observe import logs
    from cascade.serve import server, supervisor
    from cascade.serve.admission import AdmissionSettings
    from cascade.serve.config import Config
    from cascade.serve.security import Security
    from cascade.serve.sources import Sources

    logs.configure(log_level.value, access=access_log)
    runtimes = {"stage1": chosen(stage1, stage1_runtime, allow_score_drift)}
    if hosted is None:
        runtimes["stage2"] = chosen(stage2, runtime, allow_score_drift)
        if workers > 1:
            hosted = _shared(stage2, threads, log_level, allow_score_drift, runtimes["stage2"])
    security = Security(
        tls=tls,
        token_file=token_file.absolute() if token_file else None,
        public=endpoint.is_public,
        audit=audit.settings(),
        max_streams=max_streams,
        stream_idle_s=stream_idle_s,
    )
    load = partial(
        build_pipeline,
        stage1_spec=stage1,
        stage2_spec=None if stage2 == NONE else stage2,
        limits=Limits(
            max_text_bytes=max_text_bytes,
            max_batch=max_batch,
            max_queued_windows=max_queue,
            stage_timeout_s=stage_timeout_s,
        ),
        threads=max(1, (threads or usable_cores()) // workers),
        allow_score_drift=allow_score_drift,
        runtimes=runtimes,
        cache_entries=cache_entries,
        cache_bytes=cache_mb * 2**20,
        audit_key=security.audit_key(),  # made once, so that the draws of all workers are the same
    )
    config = Config(
        endpoint=endpoint,
        sources=Sources(policy, {"stage1": stage1} | ({} if stage2 == NONE else {"stage2": stage2})),
        load=load,
        hosted=hosted,
        state_dir=state_dir,
        watch=watch,
        log_level=log_level.value,
        workers=workers,
        max_connection_age_s=(CONNECTION_AGE_S if workers > 1 else 0.0)
        if max_connection_age_s is None
        else max_connection_age_s,
        observe=told,
        surfaces=gateways.surfaces(envoy, envoy_headers_only, open_inference),
        admission=AdmissionSettings(
            max_calls=max_in_flight,
            max_bytes=max_in_flight_mb * 2**20,
            target_wait_s=target_wait_ms / 1000,
            rate=caller_rate,
        ),
        security=security,
    )
    run = supervisor.supervise if workers > 1 else server.serve
    asyncio.run(run(config, announce=partial(print, flush=True)))


def _hosted(
    stage2: str,
    runtime: Runtime | None,
    device: str,
    dtype: Dtype | None,
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
    from stages.remote.place import is_place

    if not DEVICE.fullmatch(device):
        raise typer.BadParameter(f"{device} is no device: cpu, cuda or cuda:N is", param_hint="--device")
    on_gpu = device != CPU
    if on_gpu and runtime not in (None, Runtime.torch):
        raise typer.BadParameter(f"{runtime} runs on the CPU only: leave it out, or say torch", param_hint="--runtime")
    if memory_mb is not None and not on_gpu:
        raise typer.BadParameter("it bounds a GPU's memory: say --gpu too", param_hint="--gpu-memory-mb")
    here = stage2 != NONE and not is_place(stage2)
    if not here and (on_gpu or runtime in (Runtime.torch, Runtime.openvino)):
        what = Runtime.torch if on_gpu else runtime
        raise typer.BadParameter(f"there is no stage 2 here that could run on {what}", param_hint="--stage2")
    if not on_gpu and runtime is not Runtime.torch:
        for given, hint in ((adapters, "--adapter"), (dtype, "--dtype")):
            if given:
                raise typer.BadParameter("needs --gpu or --runtime torch", param_hint=hint)
        return None
    require_packages("--gpu" if on_gpu else "--runtime torch")

    from cascade.cores import usable_cores
    from cascade.serve.stage_host import HostedStage

    return HostedStage(
        spec=stage2,
        threads=threads or usable_cores(),
        device=device,
        dtype=dtype.value if dtype else None,
        adapters=_adapters(adapters),
        memory_mb=memory_mb,
        log_level=log_level.value,
    )


def _shared(
    stage2: str, threads: int | None, log_level: LogLevel, allow_score_drift: bool, runtime: str
) -> HostedStage | None:
    """The one process of stage 2 that workers share; None if stage 2 is elsewhere or nowhere."""
    from cascade.cores import usable_cores
    from cascade.serve.stage_host import HostedStage
    from stages.remote.place import is_place

    if stage2 == NONE or is_place(stage2):
        return None
    return HostedStage(
        spec=stage2,
        threads=threads or usable_cores(),
        log_level=log_level.value,
        runtime=runtime,
        allow_score_drift=allow_score_drift,
    )


def _adapters(given: list[str]) -> dict[str, Path]:
    """``["NAME=PATH"]`` -> path by name."""
    found: dict[str, Path] = {}
    for text in given:
        name, path = named(text, "PATH", "--adapter")
        if not ADAPTER_NAME.fullmatch(name):
            raise typer.BadParameter(
                f"{text}: NAME=PATH is wanted, the name of 1 to 64 letters, digits, - and _", param_hint="--adapter"
            )
        if name in found:
            raise typer.BadParameter(f"two adapters are called {name}", param_hint="--adapter")
        found[name] = Path(path).absolute()
    return found
