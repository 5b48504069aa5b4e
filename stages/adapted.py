"""Loads a LoRA adapter with its score head for a decoder: what the constitutional classifier and the judge share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stages.checkpoint import ADAPTER, TOKENIZER, base_of, end_token, open_tokenizer, require, rows_of
from stages.contents import Contents
from stages.encoder import NetworkStage
from stages.errors import ModelError
from stages.stage import Calibration
from stages.system import System

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

DECODERS = ("gemma", "llama", "qwen2")
HEAD = "base_model.model.score.weight"


def classes_of(contents: Contents) -> int:
    """How many rows the score head of an adapter has; 0 where it has none, or no weights."""
    shape = contents.shapes(ADAPTER).get(HEAD) if ADAPTER in contents.files else None
    return shape[0] if shape else 0


def load_adapted_decoder(
    folder: Path,
    system: System,
    network: Callable[[PreTrainedModel], nn.Module],
    *,
    classes: int,
    device: str,
    dtype: str | None,
) -> NetworkStage:
    """The stage of an adapter folder, on the base that its configuration names.

    Args:
        folder: the adapter, its head, and perhaps a tokenizer.
        system: whose folder it is.
        network: makes the system's network of the classifier.
        classes: the rows of the head.
        device: see :class:`stages.system.LoadPublished`.
        dtype: likewise.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the others.
    """
    contents = Contents(folder)
    require(contents, ADAPTER)
    found = classes_of(contents)
    if found != classes:
        raise ModelError(f"{folder / ADAPTER}: its score head has {found or 'no'} rows, {system.name} has {classes}")
    base = base_of(contents, *DECODERS)
    rows = rows_of(base)
    tokenizer = open_tokenizer(
        require(contents if TOKENIZER in contents.files else base, TOKENIZER),
        window_tokens=system.window_tokens,
        rows=rows,
        filler=end_token(base.config, rows),
    )

    from stages.runtime.classifier import load_adapted
    from stages.runtime.torch import TorchNetwork, choose_dtype, open_device

    classifier = load_adapted(contents, base, labels=classes, dtype=choose_dtype(dtype, open_device(device)))
    run = TorchNetwork(network(classifier), device=device, dtype=dtype)
    info = system.info(contents, device=str(run.device), runtime=run.runtime)
    return NetworkStage(info, Calibration(), tokenizer, run)
