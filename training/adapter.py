"""Ships a LoRA model as its parts, the 4-bit base and a PEFT adapter with its head, and puts them together again.

Layout of the files beside a merged ``model.onnx``:

    base/config.json               the backbone's transformers configuration
    base/model.q4.safetensors      NAME.q4 and NAME.scale for each 4-bit matrix (see stages.hazard.q4), else NAME
    adapter/adapter_config.json    PEFT's
    adapter/adapter_model.safetensors   LoRA matrices and the head, float16
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from stages.errors import ModelError
from stages.hazard import q4
from stages.hazard.network import HazardNetwork

BASE, ADAPTER = "base/model.q4.safetensors", "adapter"


def save_base(backbone_folder: Path, out: Path) -> None:
    """Packs a backbone's weights: 4-bit matrices as blocks, the rest as it is.

    Raises:
        ModelError: a matrix that should be 4-bit is not.
    """
    packed: dict[str, Any] = {}
    for name, value in load_file(backbone_folder / "model.safetensors").items():
        if value.ndim == 2 and value.shape[1] % q4.BLOCK == 0 and not _small_table(name):
            packed[f"{name}.q4"], packed[f"{name}.scale"] = q4.encode(value)
        else:
            packed[name] = value
    (out / BASE).parent.mkdir(parents=True, exist_ok=True)
    save_file(packed, out / BASE, metadata={"format": "pt", "layout": "cascade-q4-1"})
    (out / "base" / "config.json").write_bytes((backbone_folder / "config.json").read_bytes())


def _small_table(name: str) -> bool:
    return "position_embeddings" in name or "token_type_embeddings" in name


def load_base(folder: Path) -> PreTrainedModel:
    """The backbone of a model folder, unpacked to float32."""
    config = AutoConfig.from_pretrained(folder / "base", local_files_only=True, attn_implementation="eager")
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    backbone = AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-untyped-call]
    stored = load_file(folder / BASE)
    weights = {name: value for name, value in stored.items() if not name.endswith((".q4", ".scale"))} | {
        name.removesuffix(".q4"): q4.decode(value, stored[f"{name.removesuffix('.q4')}.scale"])
        for name, value in stored.items()
        if name.endswith(".q4")
    }
    backbone.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return backbone  # type: ignore[no-any-return]


def save_adapter(network: nn.Module, out: Path) -> None:
    """Writes a PEFT network's adapter and head in float16, rounding the live weights the same way.

    After it the network computes what the files say, so that everything made from it agrees with them.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.half().float())
    network.save_pretrained(str(out / ADAPTER))  # type: ignore[operator]
    path = out / ADAPTER / "adapter_model.safetensors"
    halved = {name: value.astype(np.float16) for name, value in load_file(path).items()}
    save_file(halved, path, metadata={"format": "pt"})
    (out / ADAPTER / "README.md").unlink(missing_ok=True)
    config_path = out / ADAPTER / "adapter_config.json"
    config = json.loads(config_path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "../base"  # no path of the machine that trained it
    config_path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_adapted(folder: Path, labels: int) -> nn.Module:
    """The hazard network of a model folder, base and adapter, unmerged, in evaluation mode.

    Raises:
        ModelError: the folder has no base or adapter.
    """
    from peft import PeftModel

    if not (folder / BASE).is_file() or not (folder / ADAPTER / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no base and adapter in it")
    backbone = load_base(folder)
    network = HazardNetwork(backbone, hidden=backbone.config.hidden_size, labels=labels)
    return PeftModel.from_pretrained(network, str(folder / ADAPTER)).eval()


def merged(network: nn.Module) -> nn.Module:
    """A copy of a PEFT network with the adapters folded into the base; the network itself stays as it is."""
    import copy

    return copy.deepcopy(network).merge_and_unload().eval()  # type: ignore[operator, no-any-return]
