"""Takes a wholly tuned network apart into a 4-bit base and a LoRA adapter that corrects it (LoftQ, arXiv:2310.08659).

Each matrix W becomes Q + B A: Q of 4 bits, and B A the best correction of rank r to what these left over, by singular
values. The two steps are taken in turn: Q of what the correction does not say, then the correction of what Q does not.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.hazard import q4
from training.adapter import is_packed
from training.lora import with_lora
from training.recipe import Lora

ROUNDS = 5
CONFIGS = ("config.json",)


def take_apart(network: nn.Module, lora: Lora, model_type: str, base: Path, out: Path) -> nn.Module:
    """Writes the 4-bit base to the folder ``out`` and returns the PEFT network on it, in evaluation mode.

    Args:
        network: a tuned hazard network; it stays as it is.
        lora: the adapter's rank, scale and target matrices.
        model_type: transformers' name of the architecture.
        base: the backbone's folder, for its configuration.
        out: gets ``config.json`` and ``model.safetensors``.
    """
    adapted = with_lora(copy.deepcopy(network), lora, model_type, heads=["head"]).eval()
    corrected = _correct(adapted, lora.alpha / lora.r)
    backbone: PreTrainedModel = copy.deepcopy(network).backbone  # type: ignore[assignment]
    weights = {}
    for name, value in backbone.state_dict().items():
        module = name.removesuffix(".weight")
        if module in corrected:
            weights[name] = corrected[module]
        elif is_packed(name, value.shape):
            weights[name] = torch.from_numpy(q4.rounded(value.numpy()))
        else:
            weights[name] = value
    _set_base(adapted, weights)
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, out / "model.safetensors")
    for name in CONFIGS:
        (out / name).write_bytes((base / name).read_bytes())
    return adapted


def _correct(adapted: nn.Module, scaling: float) -> dict[str, Tensor]:
    """Sets every adapter to the correction of its matrix; returns the 4-bit matrices by the backbone's module name."""
    from peft.tuners.lora import LoraLayer

    found = {}
    for name, module in adapted.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        layer: Any = module
        (adapter,) = layer.lora_A
        whole = layer.base_layer.weight.detach().double().numpy()
        rounded, b, a = _four_bits_and_correction(whole, layer.r[adapter])
        with torch.no_grad():
            layer.lora_A[adapter].weight.copy_(torch.from_numpy(a))
            layer.lora_B[adapter].weight.copy_(torch.from_numpy(b / scaling))
        found[name.split("backbone.", 1)[1]] = torch.from_numpy(rounded)
    return found


def _four_bits_and_correction(
    whole: NDArray[np.float64], rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Q, B [rows, rank] and A [rank, columns] of a matrix [rows, columns]."""
    b, a = np.zeros((len(whole), rank)), np.zeros((rank, whole.shape[1]))
    rounded = whole.astype(np.float32)
    for _ in range(ROUNDS):
        rounded = q4.rounded((whole - b @ a).astype(np.float32))
        left, values, right = np.linalg.svd(whole - rounded, full_matrices=False)
        roots = np.sqrt(values[:rank])
        b, a = left[:, :rank] * roots, roots[:, None] * right[:rank]
    return rounded, b, a


def _set_base(adapted: nn.Module, weights: dict[str, Tensor]) -> None:
    """Gives the adapted network's frozen parts the weights of the base."""
    names = {
        name.split("backbone.", 1)[1].replace(".base_layer.", "."): value
        for name, value in adapted.state_dict(keep_vars=True).items()
        if "backbone." in name and ".lora_" not in name
    }
    with torch.no_grad():
        for name, value in weights.items():
            names[name].copy_(value)
