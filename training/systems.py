"""How each system's network is built from a backbone folder, ready to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from stages.errors import ModelError
from stages.hazard.network import HazardNetwork
from stages.tinysafe.network import TinySafeNetwork
from training.batches import training_tokenizer
from training.lora import with_lora
from training.recipe import Recipe
from training.targets import LABELS
from training.tokenizer import tokenizer_of


@dataclass(frozen=True)
class System:
    """A network with its tokenizer.

    ``saved`` is what of it saves itself as its system publishes it: a classifier of transformers or PEFT's adapter for
    one; None where the network is saved as it is. ``model_type`` is transformers' name of the architecture.
    """

    network: nn.Module
    tokenizer: Tokenizer
    pad_id: int
    labels: tuple[str, ...]
    model_type: str
    saved: nn.Module | None = None


def attention() -> str | None:
    """The attention to train with: eager on a CPU, whose backward pass is the faster one there; else the default."""
    return None if torch.cuda.is_available() else "eager"


def load_backbone(folder: Path, *, hidden_dropout: float = 0.0, attention_dropout: float = 0.0) -> PreTrainedModel:
    """A transformers encoder from a local folder, in float32.

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
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention(),
            local_files_only=True,
            **extra,
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no encoder that transformers can load ({error})") from error
    return model  # type: ignore[no-any-return]


def build_system(recipe: Recipe, base: Path) -> System:
    """The network of a recipe on the backbone in ``base``.

    Raises:
        ModelError: the folder is of no use for this system, or has no tokenizer.
    """
    if recipe.system not in ("tinysafe", "hazard"):
        from training.classifiers import build_classifier

        return build_classifier(recipe, base)
    tokenizer = training_tokenizer(tokenizer_of(base), recipe.data.max_tokens)
    regularise, labels = recipe.regularise, LABELS[recipe.system]
    backbone = load_backbone(
        base, hidden_dropout=regularise.hidden_dropout, attention_dropout=regularise.attention_dropout
    )
    config = backbone.config
    hidden, pad_id, kind = config.hidden_size, config.pad_token_id or 0, config.model_type
    if recipe.system == "tinysafe":
        network: nn.Module = TinySafeNetwork(
            backbone,
            hidden=hidden,
            labels=len(labels),
            dropout=regularise.dropout,
            dropout_samples=regularise.dropout_samples,
            pooling=recipe.pooling,
        )
        return System(network, tokenizer, pad_id, labels, kind)
    network = HazardNetwork(backbone, hidden=hidden, labels=len(labels), dropout=regularise.dropout)
    if recipe.lora and recipe.lora.tune == "adapter":
        network = with_lora(network, recipe.lora, kind, heads=["head"])
    return System(network, tokenizer, pad_id, labels, kind)
