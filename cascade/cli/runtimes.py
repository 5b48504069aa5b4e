"""What runs the networks of the stages: the options, and what they come to on this CPU."""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from enum import StrEnum
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Annotated

import typer

from cascade.cli.options import NONE
from stages.errors import DependencyError

log = logging.getLogger(__name__)


class Runtime(StrEnum):
    """What runs the network of stage 2."""

    onnxruntime = "onnxruntime"
    openvino = "openvino"
    torch = "torch"
    auto = "auto"


class CpuRuntime(StrEnum):
    """What runs a network on the CPU in the process that asks."""

    onnxruntime = "onnxruntime"
    openvino = "openvino"
    auto = "auto"


Stage2Runtime = Annotated[
    Runtime | None,
    typer.Option(
        help="What runs stage 2: torch runs it in a process of its own, openvino needs the extra `openvino`, auto "
        "measures at the start which of the two others is faster here. Default: torch on a GPU, else onnxruntime.",
        show_default=False,
    ),
]
Stage1Runtime = Annotated[CpuRuntime, typer.Option(help="What runs stage 1: as for stage 2, on the CPU.")]


def require_openvino(wanted: str | None, option: str) -> None:
    """Checks, without importing it, that OpenVINO is installed if it is wanted.

    Raises:
        DependencyError: it is not.
    """
    if wanted == CpuRuntime.openvino and find_spec("openvino") is None:
        raise DependencyError(f"{option} openvino: openvino is missing: pip install 'safety-cascade[openvino]'")


def chosen(spec: str, wanted: str | None, allow_score_drift: bool) -> str:
    """The runtime of a model on the CPU, "onnxruntime" or "openvino".

    It is chosen once, before any process of the server loads the model, so that all of them score alike.

    Raises:
        CascadeError: "auto" is wanted, and the model cannot be loaded.
    """
    if wanted != CpuRuntime.auto or spec == NONE:
        return CpuRuntime.openvino if wanted == CpuRuntime.openvino else CpuRuntime.onnxruntime
    from stages.fastest import fastest

    # In a process of its own: what was loaded to be measured leaves no memory behind.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        choice = process.submit(fastest, spec, allow_score_drift=allow_score_drift).result()
    log.info("%s", choice.why)
    return choice.runtime
