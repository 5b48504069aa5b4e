"""Where the models may run: here, the CPU. Whoever asks for more is told so, not served less in silence."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from cascade.errors import DependencyError

GO_ON = "Leave --gpu out to serve on the CPU."


def refuse_gpu() -> None:
    """Says what is missing for ``--gpu``: PyTorch, a CUDA device, and in this release the runtime itself.

    Raises:
        DependencyError: always.
    """
    if find_spec("torch") is None:
        found = "PyTorch is not installed (the extra safety-cascade[gpu] brings it)"
    elif not (devices := import_module("torch").cuda.device_count()):
        found = "PyTorch is installed but sees no CUDA device"
    else:
        found = f"PyTorch sees {devices} CUDA device{'s' if devices > 1 else ''}"
    raise DependencyError(f"--gpu: this release cannot serve on a GPU, a later one will. {found}. {GO_ON}")
