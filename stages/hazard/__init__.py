"""The LoRA hazard classifier: a binary judge and the 14 MLCommons hazards."""

from __future__ import annotations

from pathlib import Path

from stages.encoder import EncoderStage
from stages.errors import ModelError
from stages.manifest import Manifest
from stages.taxonomy import HAZARD_SLUGS


def load(folder: Path, manifest: Manifest, threads: int) -> EncoderStage:
    """The stage of a hazard model folder, merged and quantised.

    Raises:
        ModelError: its labels are not the 14 hazards, or a file is no model.
    """
    if tuple(manifest.labels) != HAZARD_SLUGS:
        raise ModelError(f"{folder}: labels are not the 14 hazards in canonical order")
    return EncoderStage(folder, manifest, "hazard_logits", threads=threads)
