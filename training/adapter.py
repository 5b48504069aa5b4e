"""Ships a LoRA model as its parts: the 4-bit base and a PEFT adapter with its head.

:mod:`stages.hazard.adapted` tells the layout and puts the parts together again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from stages.hazard import q4
from stages.hazard.adapted import ADAPTER, BASE, CONFIG, WEIGHTS


def save_base(backbone_folder: Path, out: Path) -> None:
    """Packs a backbone's weights: 4-bit matrices as blocks, the rest as it is.

    Raises:
        ModelError: a matrix that should be 4-bit is not.
    """
    packed: dict[str, Any] = {}
    for name, value in load_file(backbone_folder / "model.safetensors").items():
        if is_packed(name, value.shape):
            packed[f"{name}.q4"], packed[f"{name}.scale"] = q4.encode(value)
        else:
            packed[name] = value
    (out / BASE).parent.mkdir(parents=True, exist_ok=True)
    save_file(packed, out / BASE, metadata={"format": "pt", "layout": "cascade-q4-1"})
    (out / "base" / "config.json").write_bytes((backbone_folder / "config.json").read_bytes())


def is_packed(name: str, shape: Sequence[int]) -> bool:
    """Whether a base ships a weight in 4-bit blocks: its matrices, but for the small tables."""
    small = "position_embeddings" in name or "token_type_embeddings" in name
    return len(shape) == 2 and shape[1] % q4.BLOCK == 0 and not small


def save_adapter(network: nn.Module, out: Path) -> None:
    """Writes a PEFT network's adapter and head in float16, rounding the live weights the same way.

    After it the network computes what the files say, so that everything made from it agrees with them.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.half().float())
    network.save_pretrained(str(out / ADAPTER))  # type: ignore[operator]
    path = out / ADAPTER / WEIGHTS
    halved = {name: value.astype(np.float16) for name, value in load_file(path).items()}
    save_file(halved, path, metadata={"format": "pt"})
    (out / ADAPTER / "README.md").unlink(missing_ok=True)
    config_path = out / ADAPTER / CONFIG
    config = json.loads(config_path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "../base"  # no path of the machine that trained it
    config_path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def merged(network: nn.Module) -> nn.Module:
    """A copy of a PEFT network with the adapters folded into the base; the network itself stays as it is."""
    import copy

    return copy.deepcopy(network).merge_and_unload().eval()  # type: ignore[operator, no-any-return]
