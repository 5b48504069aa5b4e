"""The judge as ``cascade train judge`` saves it: a LoRA adapter and a score head of 1 + 14 rows for a small decoder.

The first row is the binary judge's logit, the others are the hazards', one sigmoid each.
"""

from __future__ import annotations

from pathlib import Path

from stages.adapted import classes_of, load_adapted_decoder
from stages.checkpoint import adapted_files, targets
from stages.contents import Contents
from stages.encoder import NetworkStage
from stages.system import System
from stages.taxonomy import HAZARD_SLUGS, VERSION

CLASSES = 1 + len(HAZARD_SLUGS)


def recognises(contents: Contents) -> bool:
    """Whether a folder holds an adapter for a decoder whose head has a row for each hazard and one more."""
    return any("q_proj" in target for target in targets(contents)) and classes_of(contents) == CLASSES


def load_published(folder: Path, *, device: str, dtype: str | None) -> NetworkStage:
    """The stage of an adapter folder. See :class:`stages.system.LoadPublished`."""
    from stages.judge.network import JudgeNetwork

    return load_adapted_decoder(folder, SYSTEM, JudgeNetwork, classes=CLASSES, device=device, dtype=dtype)


SYSTEM = System(
    name="judge",
    kind="judge",
    taxonomy=VERSION,
    labels=HAZARD_SLUGS,
    base="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    window_tokens=256,
    recognises=recognises,
    load=load_published,
    base_files=adapted_files,
)
