"""How each system's network is built from a backbone folder, ready to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, PreTrainedModel

from stages.hazard.network import HazardNetwork
from stages.tinysafe.network import TinySafeNetwork
from training.batches import training_tokenizer
from training.lora import with_lora
from training.pretrained import configuration, load
from training.recipe import Recipe
from training.targets import LABELS
from training.tokenizer import tokenizer_of

ENCODER = "encoder"


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


def load_backbone(folder: Path, *, hidden_dropout: float = 0.0, attention_dropout: float = 0.0) -> PreTrainedModel:
    """A transformers encoder from a local folder, in float32.

    Raises:
        ModelError: the folder is no encoder.
    """
    config: Any = configuration(folder, ENCODER)
    if hasattr(config, "hidden_dropout_prob"):
        config.hidden_dropout_prob = hidden_dropout
        config.attention_probs_dropout_prob = attention_dropout
    extra: dict[str, Any] = (
        {"add_pooling_layer": False} if config.model_type in ("bert", "xlm-roberta", "roberta") else {}
    )
    return load(AutoModel, folder, config, ENCODER, **extra)


def build_system(recipe: Recipe, base: Path) -> System:
    """The network of a recipe on the backbone in ``base``.

    Raises:
        ModelError: the folder is of no use for this system, or has no tokenizer.
    """
    if recipe.system not in ("tinysafe", "hazard"):
        from training.classifiers import build_classifier

        return build_classifier(recipe, base)
    regularise, labels = recipe.regularise, LABELS[recipe.system]
    backbone = load_backbone(
        base, hidden_dropout=regularise.hidden_dropout, attention_dropout=regularise.attention_dropout
    )
    config = backbone.config
    tokenizer = training_tokenizer(tokenizer_of(base, rows=config.vocab_size), recipe.data.max_tokens)
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
