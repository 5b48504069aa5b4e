"""The constitutional Gemma classifier as published: a LoRA adapter with its score head for ``google/gemma-2b``.

Two softmax classes, 0 safe and 1 toxic, so the unsafe logit is the difference of theirs. It names no hazards.
"""

from __future__ import annotations

from pathlib import Path

from stages.adapted import classes_of, load_adapted_decoder
from stages.checkpoint import adapted_files, targets
from stages.contents import Contents
from stages.encoder import NetworkStage
from stages.errors import ModelError
from stages.judge.published import CLASSES as JUDGE_CLASSES
from stages.system import System

CLASSES = 2


def recognises(contents: Contents) -> bool:
    """Whether a folder holds an adapter for the attention layers of a decoder that is no judge."""
    return any("q_proj" in target for target in targets(contents)) and classes_of(contents) != JUDGE_CLASSES


def load_published(folder: Path, *, device: str, dtype: str | None) -> NetworkStage:
    """The stage of an adapter folder. See :class:`stages.system.LoadPublished`."""
    if dtype == "float16":
        raise ModelError(
            f"{folder}: float16 is refused, Gemma's activations exceed its largest number (65,504) and become "
            "infinite; use bfloat16 or float32"
        )
    from stages.constitutional.network import ConstitutionalNetwork

    return load_adapted_decoder(folder, SYSTEM, ConstitutionalNetwork, classes=CLASSES, device=device, dtype=dtype)


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
