"""Where stage 2 may run, and what must be there for it. Whoever asks for a GPU gets one or is told why not.

Imports torch only when a device is checked: the server itself goes without it, its stage's process does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from cascade.errors import DependencyError

PACKAGES = {"torch": "PyTorch", "transformers": "transformers", "peft": "PEFT", "safetensors": "safetensors"}
DEVICE = re.compile(r"cpu|cuda(:\d+)?")
GO_ON = "Leave --gpu and --device out to serve on the CPU."
MB = 2**20


def require_packages(wanted_by: str) -> None:
    """Says which packages of the torch runtime are missing, without importing any.

    Raises:
        DependencyError: at least one is.
    """
    missing = [title for name, title in PACKAGES.items() if find_spec(name) is None]
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        raise DependencyError(
            f"{wanted_by}: {_and(missing)} {verb} not installed (the extra safety-cascade[gpu] brings it). {GO_ON}"
        )


def require_device(device: str) -> None:
    """Checks that a device is there: "cpu", "cuda" or "cuda:N".

    Raises:
        DependencyError: PyTorch is missing, or sees no such device.
    """
    require_packages(f"--device {device}")
    if device == "cpu":
        return
    count = import_module("torch").cuda.device_count()
    index = _index(device)
    if not count:
        raise DependencyError(f"--device {device}: PyTorch is installed but sees no CUDA device. {GO_ON}")
    if index >= count:
        seen = f"{count} CUDA device{'s' if count > 1 else ''}, numbered from 0"
        raise DependencyError(f"--device {device}: PyTorch sees {seen}. {GO_ON}")


def limit_memory(device: str, megabytes: int | None) -> None:
    """Bounds what this process takes of a GPU's memory; beyond it PyTorch runs out of memory as if there were no more.

    Raises:
        DependencyError: the device has less than that.
    """
    if megabytes is None:
        return
    torch, index = import_module("torch"), _index(device)
    total = torch.cuda.get_device_properties(index).total_memory
    if megabytes * MB > total:
        raise DependencyError(f"--gpu-memory-mb {megabytes}: {device} has {total // MB}")
    torch.cuda.set_per_process_memory_fraction(megabytes * MB / total, index)


def _index(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
