"""The constitutional Gemma classifier as published: a LoRA adapter with its score head for ``google/gemma-2b``.

Two softmax classes, 0 safe and 1 toxic, so the unsafe logit is the difference of theirs. It names no hazards.
"""

from __future__ import annotations

from pathlib import Path

from stages.checkpoint import (
    ADAPTER,
    TOKENIZER,
    DecoderTokenizer,
    adapted_files,
    base_of,
    end_token,
    open_tokenizer,
    require,
    rows_of,
    targets,
)
from stages.contents import Contents
from stages.encoder import NetworkStage
from stages.errors import ModelError
from stages.stage import Calibration
from stages.system import System

MODEL_TYPES = ("gemma", "llama", "qwen2")  # Gemma's as published; the others are what our recipe also trains on
HEAD = "base_model.model.score.weight"
CLASSES = 2


def recognises(contents: Contents) -> bool:
    """Whether a folder holds an adapter for the attention layers of a decoder."""
    return any("q_proj" in target for target in targets(contents))


def load_published(folder: Path, *, device: str, dtype: str | None) -> NetworkStage:
    """The stage of an adapter folder. See :class:`stages.system.LoadPublished`."""
    if dtype == "float16":
        raise ModelError(
            f"{folder}: float16 is refused, Gemma's activations exceed its largest number (65,504) and become "
            "infinite; use bfloat16 or float32"
        )
    contents = Contents(folder)
    require(contents, ADAPTER)
    head = contents.shapes(ADAPTER).get(HEAD)
    if head is None or head[0] != CLASSES:
        raise ModelError(
            f"{folder / ADAPTER}: its score head has {head[0] if head else 'no'} rows, safe and toxic are {CLASSES}"
        )
    base = base_of(contents, *MODEL_TYPES)
    rows = rows_of(base)
    tokenizer = open_tokenizer(
        require(contents if TOKENIZER in contents.files else base, TOKENIZER),
        window_tokens=SYSTEM.window_tokens,
        rows=rows,
    )

    from stages.constitutional.network import ConstitutionalNetwork
    from stages.runtime.classifier import load_adapted
    from stages.runtime.torch import TorchNetwork, choose_dtype, open_device

    classifier = load_adapted(contents, base, labels=CLASSES, dtype=choose_dtype(dtype, open_device(device)))
    network = TorchNetwork(ConstitutionalNetwork(classifier), device=device, dtype=dtype)
    info = SYSTEM.info(contents, device=str(network.device), runtime=network.runtime)
    return NetworkStage(info, Calibration(), DecoderTokenizer(tokenizer, end_token(base.config, rows)), network)


SYSTEM = System(
    name="constitutional",
    kind="constitutional",
    taxonomy="safe-toxic@1",
    labels=(),
    base="google/gemma-2b",
    licence="Apache-2.0 (the base: Gemma Terms of Use)",
    window_tokens=256,
    recognises=recognises,
    load=load_published,
    base_files=adapted_files,
)
