"""Low-rank adapters (LoRA) on a network, by PEFT."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

from torch import nn

from stages.errors import ModelError
from training.recipe import Lora
from training.regularisers import TextDropout

log = logging.getLogger(__name__)

_BERT = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
_DECODER = ("q_proj", "k_proj", "v_proj", "o_proj")
# The same matrices under the names of other architectures, for a recipe that is run on another base.
TARGETS: dict[str, tuple[str, ...]] = {
    "bert": _BERT,
    "xlm-roberta": _BERT,
    "roberta": _BERT,
    "deberta-v2": ("query_proj", "key_proj", "value_proj", *_BERT[3:]),
    "modernbert": ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"),
    "gemma": _DECODER,
    "llama": _DECODER,
    "qwen2": _DECODER,
}


def with_lora(
    network: nn.Module, lora: Lora, model_type: str, *, heads: Sequence[str], task: str | None = None
) -> nn.Module:
    """A network with adapters on its target matrices; its ``heads`` train whole and are saved with them.

    Raises:
        ModelError: the network has no such matrices, and those of its architecture are not known either.
    """
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(
        task_type=task,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets_in(network, lora, model_type),
        modules_to_save=list(heads),
        bias="none",
    )
    with warnings.catch_warnings():  # PEFT asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        adapted = get_peft_model(network, config)
    if lora.text_dropout:
        for module in list(adapted.modules()):
            if isinstance(module, LoraLayer):
                module.lora_dropout.update({name: TextDropout(lora.dropout) for name in module.lora_dropout})
    return adapted


def targets_in(network: nn.Module, lora: Lora, model_type: str) -> list[str]:
    """The recipe's target matrices or, where the network has none of these names, those of its architecture."""
    if _has(network, lora.targets):
        return list(lora.targets)
    others = TARGETS.get(model_type, ())
    if not others or not _has(network, others):
        raise ModelError(f"a {model_type} network has no matrices named {', '.join(lora.targets)}")
    log.warning("the recipe's LoRA targets are not those of a %s network: taking %s", model_type, ", ".join(others))
    return list(others)


def _has(network: nn.Module, targets: Sequence[str]) -> bool:
    names = [name for name, _ in network.named_modules()]
    return all(any(name == target or name.endswith(f".{target}") for name in names) for target in targets)
