"""How each system's network is built from a backbone folder, ready to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from stages.errors import ModelError
from stages.hazard.network import HazardNetwork
from stages.taxonomy import HAZARD_SLUGS, TINYSAFE_CATEGORIES
from stages.tinysafe.network import TinySafeNetwork
from training.batches import training_tokenizer
from training.recipe import Lora, Recipe
from training.regularisers import TextDropout


@dataclass(frozen=True)
class System:
    """A network with its tokenizer."""

    network: nn.Module
    tokenizer: Tokenizer
    pad_id: int
    labels: tuple[str, ...]


def load_backbone(folder: Path, *, hidden_dropout: float = 0.0, attention_dropout: float = 0.0) -> PreTrainedModel:
    """A transformers encoder from a local folder, in eager attention: on CPUs its backward pass is the faster one.

    Raises:
        ModelError: the folder is no encoder.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if hasattr(config, "hidden_dropout_prob"):
            config.hidden_dropout_prob = hidden_dropout
            config.attention_probs_dropout_prob = attention_dropout
        extra = {"add_pooling_layer": False} if config.model_type in ("bert", "xlm-roberta", "roberta") else {}
        model = AutoModel.from_pretrained(
            folder, config=config, attn_implementation="eager", local_files_only=True, **extra
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no encoder that transformers can load ({error})") from error
    return model  # type: ignore[no-any-return]


def build_system(recipe: Recipe, base: Path) -> System:
    """The network of a recipe on the backbone in ``base``.

    Raises:
        ModelError: the folder is no encoder, or has no tokenizer.json.
    """
    if not (base / "tokenizer.json").is_file():
        raise ModelError(f"{base}: no tokenizer.json")
    tokenizer = training_tokenizer(str(base), recipe.data.max_tokens)
    regularise = recipe.regularise
    backbone = load_backbone(
        base, hidden_dropout=regularise.hidden_dropout, attention_dropout=regularise.attention_dropout
    )
    hidden, pad_id = backbone.config.hidden_size, backbone.config.pad_token_id or 0
    if recipe.system == "tinysafe":
        network: nn.Module = TinySafeNetwork(
            backbone,
            hidden=hidden,
            labels=len(TINYSAFE_CATEGORIES),
            dropout=regularise.dropout,
            dropout_samples=regularise.dropout_samples,
        )
        return System(network, tokenizer, pad_id, TINYSAFE_CATEGORIES)
    network = HazardNetwork(backbone, hidden=hidden, labels=len(HAZARD_SLUGS), dropout=regularise.dropout)
    return System(with_lora(network, recipe.lora) if recipe.lora else network, tokenizer, pad_id, HAZARD_SLUGS)


def with_lora(network: nn.Module, lora: Lora) -> nn.Module:
    """A network with low-rank adapters on its target matrices; its head trains whole and is saved with them."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        modules_to_save=["head"],
        bias="none",
    )
    adapted = get_peft_model(network, config)
    for module in list(adapted.modules()):
        if isinstance(module, LoraLayer):
            module.lora_dropout.update({name: TextDropout(lora.dropout) for name in module.lora_dropout})
    return adapted
