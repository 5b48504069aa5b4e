"""One stage in a process of its own: *arguments* -> load -> warm up -> ``cascade.v1.StageService`` on a socket.

    python -m cascade.serve.stage_process --stage stage2 --spec hazard --device cuda:0 --listen unix:/run/stage2.sock

:class:`cascade.serve.stage_host.StageHost` starts it. On stdout goes one line of JSON, ``{"ready": ADDRESS}`` or
``{"error": ..., "reason": ...}``; logs go to stderr. It ends on SIGTERM, and with ``--with-parent`` also when its stdin
ends, which is when its parent is gone, however that came about.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TextIO

import grpc

from cascade.batching import Batcher
from cascade.errors import CascadeError, StageError
from cascade.limits import Limits
from cascade.observe import logs
from cascade.observe.metrics import Metrics
from cascade.serve.calls import Calls
from cascade.serve.device import limit_memory, require_device
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.models import StageService
from cascade.v1 import stage_service_pb2
from stages.registry import load_stage
from stages.resident import load_resident
from stages.stage import Stage, Window

OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
WARM_UP = "Is the kettle still on? "
LENGTHS = (1, 8, 64)  # repeats of the warm-up: a short text, a middling one, and one of several windows
FLUSH_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Alone:
    """The one stage that this process has."""

    stages: Mapping[str, Batcher]
    limits: Limits


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is told to stop; the exit code is 1 if the stage could not be loaded."""
    options = _parse(arguments)
    logs.configure(options.log_level)
    # Whatever a library prints must not be taken for the report.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as report:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent too, which still needs this process
        try:
            stage = _load(options)
            warm_up(stage)
            asyncio.run(_serve(stage, options, report))
        except CascadeError as error:
            _tell(report, {"error": str(error), "reason": error.reason})
            return 1
        except Exception as error:
            log.exception("the stage ended", extra={"stage": options.stage})
            _tell(report, {"error": f"{options.stage}: {type(error).__name__}", "reason": StageError.reason})
            return 1
    return 0


def _load(options: argparse.Namespace) -> Stage:
    if options.runtime != "torch":
        return load_stage(
            options.spec,
            allow_score_drift=options.allow_score_drift,
            runtime=options.runtime,
            calls=options.threads,
        )
    require_device(options.device)
    limit_memory(options.device, options.memory_mb)
    _set_threads(options.threads)
    return load_resident(options.spec, device=options.device, dtype=options.dtype, adapters=dict(options.adapter))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cascade.serve.stage_process", description=__doc__)
    parser.add_argument("--stage", required=True, help='the part that it plays: "stage1" or "stage2"')
    parser.add_argument("--spec", required=True, help="an embedded name, a model folder or a hub id")
    parser.add_argument("--listen", required=True, help="where to serve, as gRPC names it")
    parser.add_argument("--device", default="cpu", help='"cpu", "cuda" or "cuda:N"')
    parser.add_argument("--adapter", action="append", default=[], type=_adapter, help="NAME=PATH, repeatable")
    parser.add_argument("--memory-mb", type=int, help="the most memory of the GPU")
    parser.add_argument(
        "--threads", type=int, required=True, help="CPU threads of torch; batches at a time of the other runtimes"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: what the device does best")
    parser.add_argument("--batch-tokens", type=int, required=True, help="work of a batch, in tokens")
    runtimes = ("torch", "onnxruntime", "openvino")
    parser.add_argument("--runtime", default="torch", choices=runtimes, help="what runs the network")
    parser.add_argument("--allow-score-drift", action="store_true", help="not for torch: golden texts may differ")
    parser.add_argument("--with-parent", action="store_true", help="end when stdin ends")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser.parse_args(arguments)


def _adapter(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    return name, Path(path)


def _set_threads(number: int) -> None:
    import torch

    torch.set_num_threads(number)


def warm_up(stage: Stage) -> None:
    """Scores windows of several lengths, alone and together, with each adapter: kernels and buffers get made."""
    windows: list[Window] = [window for times in LENGTHS for window in stage.encode(WARM_UP * times).windows]
    stage.score(windows[:1])
    stage.score([Window(window.ids, 0, 0, adapter) for adapter in ("", *stage.info.adapters) for window in windows])


async def _serve(stage: Stage, options: argparse.Namespace, report: TextIO) -> None:
    stop = _stop_when_told(options.with_parent)
    threads = options.threads if options.runtime != "torch" else 1  # torch has threads of its own
    # Whoever calls has a timeout, and this process replaced if it hangs: it must not look as if it only failed.
    batcher = Batcher(stage, threads=threads, max_tokens_per_batch=options.batch_tokens, timeout_s=inf)
    server = grpc.aio.server(options=OPTIONS)
    alone = _Alone({options.stage: batcher}, Limits())
    service = StageService(lambda: nullcontext(alone))
    contract = stage_service_pb2.DESCRIPTOR.services_by_name["StageService"]
    server.add_generic_rpc_handlers((Calls(Metrics(), Lifecycle()).bind(service, contract),))
    try:
        server.add_insecure_port(options.listen)
    except RuntimeError:
        raise CascadeError(f"cannot listen on {options.listen}") from None
    await server.start()
    _tell(report, {"ready": options.listen})
    await stop.wait()
    await server.stop(FLUSH_S)
    await batcher.close()


def _stop_when_told(with_parent: bool) -> asyncio.Event:
    """Set on SIGTERM, and with a parent when stdin ends."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def on_stdin() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    if with_parent:
        loop.add_reader(0, on_stdin)
    return stop


def _tell(report: TextIO, message: dict[str, str]) -> None:
    report.write(json.dumps(message) + "\n")
    report.flush()


if __name__ == "__main__":
    sys.exit(main())
