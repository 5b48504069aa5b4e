"""What lies in a published model folder, read without running anything of it and without torch."""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stages.errors import ModelError
from stages.manifest import file_hash

SAFETENSORS = ("model.safetensors", "adapter_model.safetensors")
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLES = ("model.pt", "best_model.pt")
ONNX = "model.onnx"
OLD_PICKLES = 5  # in a file of torch.save's old form: three of a heading, the object, its tensors' keys
# What a pickled state dict calls for: containers, tensors, their storages and types.
SAFE_GLOBAL = re.compile(
    r"collections (OrderedDict|defaultdict)|torch\._utils _rebuild_\w+|torch(\.storage)? \w*Storage"
    r"|torch\.serialization _get_layout|torch (Size|device|float\w*|bfloat16|u?int\d+|bool)|__builtin__ (set|dict|list)"
)
MAX_HEADER = 100_000_000  # bytes; what the safetensors format allows


@dataclass(frozen=True)
class Contents:
    """A folder seen from outside. Each property reads its file on first use.

    Raises:
        ModelError: a file is truncated, or not what its name says; the message names it.
    """

    folder: Path

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Paths of all files relative to the folder, hidden ones left out, sorted."""
        found = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        return tuple(sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts)))

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {name: file_hash(self.folder / name) for name in self.files}

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``; empty if there is none."""
        return self.json("config.json")

    @cached_property
    def adapter(self) -> dict[str, Any]:
        """``adapter_config.json`` of PEFT; empty if there is none."""
        return self.json("adapter_config.json")

    @cached_property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors in the safetensors files or, if there is none, of the strings in the ``.pt`` file."""
        if SAFETENSORS_INDEX in self.files:
            return frozenset(self.json(SAFETENSORS_INDEX).get("weight_map", {}))
        names = [name for name in SAFETENSORS if name in self.files]
        if names:
            return frozenset().union(*(self.shapes(name) for name in names))
        return frozenset().union(*(pickled_strings(self.folder / name) for name in PICKLES if name in self.files))

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the outputs of ``model.onnx``; empty if there is none."""
        from stages.runtime.onnx import output_names

        return output_names(self.folder / ONNX) if ONNX in self.files else frozenset()

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object; empty if there is no such file.

        Raises:
            ModelError: the file holds anything else.
        """
        if name not in self.files:
            return {}
        path = self.folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: not JSON ({error})") from error
        if not isinstance(value, dict):
            raise ModelError(f"{path}: not a JSON object")
        return value

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """Tensor names and shapes of a safetensors file, out of its header.

        Raises:
            ModelError: the file is no safetensors file, or is cut off.
        """
        path = self.folder / name
        try:
            with path.open("rb") as file:
                (size,) = struct.unpack("<Q", file.read(8))
                if size > MAX_HEADER:
                    raise ValueError("its header is too long")
                header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            shapes = {key: tuple(int(n) for n in entry["shape"]) for key, entry in header.items()}
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise ModelError(f"{path}: not a safetensors file ({error})") from error
        if path.stat().st_size != 8 + size + end:
            raise ModelError(
                f"{path}: {path.stat().st_size} bytes, its header promises {8 + size + end}: it is cut off"
            )
        return shapes


def pickled_strings(path: Path) -> frozenset[str]:
    """All strings in a file of torch.save, among them the keys of its state dict; nothing of it is executed.

    Raises:
        ModelError: the file is cut off, or no such file, or it holds more than tensors, numbers and texts.
    """
    try:
        archive = zipfile.is_zipfile(path)
        stream = io.BytesIO(_pickle_in(path) if archive else path.read_bytes())
        found: set[str] = set()
        for _ in range(1 if archive else OLD_PICKLES):
            for opcode, value, _ in pickletools.genops(stream):
                if opcode.name == "STACK_GLOBAL":  # of protocol 4, whose calls are told only by running it
                    raise ModelError(
                        f"{path}: pickled in protocol 4 or later, which a safe load refuses: "
                        "save the state dict alone, best as safetensors"
                    )
                if not isinstance(value, str):
                    continue
                if opcode.name == "GLOBAL" and not SAFE_GLOBAL.fullmatch(value):
                    raise ModelError(_unsafe(path, value.replace(" ", ".")))
                found.add(value)
    except (OSError, ValueError, IndexError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: not a file of torch.save, or cut off ({error})") from error
    return frozenset(found)


def _unsafe(path: Path, what: str) -> str:
    """Says what a pickle holds that is not loaded."""
    if what.startswith("numpy."):
        return (
            f"{path}: numpy values ({what}) beside the weights, which a safe load refuses: "
            "save the state dict alone, best as safetensors"
        )
    return f"{path}: pickled code ({what}), which is never run here: save the state dict alone, best as safetensors"


def _pickle_in(path: Path) -> bytes:
    """The pickle in a zip archive of torch.save."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(names) != 1:
            raise ValueError("no data.pkl in it")
        return archive.read(names[0])
