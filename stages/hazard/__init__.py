"""The LoRA hazard classifier: a binary judge and the 14 MLCommons hazards."""

from __future__ import annotations

from pathlib import Path

from stages.encoder import ONNXRUNTIME, EncoderStage
from stages.errors import ModelError
from stages.manifest import Manifest
from stages.taxonomy import HAZARD_SLUGS, LEGACY9


def load(folder: Path, manifest: Manifest, threads: int, runtime: str = ONNXRUNTIME, calls: int = 1) -> EncoderStage:
    """The stage of a hazard model folder, merged and quantised: the 14 hazards, or the 9 legacy classes.

    Raises:
        DependencyError: OpenVINO is wanted and not installed.
        ModelError: its labels are neither, or a file is no model.
    """
    legacy = tuple(slug for _, slug in LEGACY9)
    if tuple(manifest.labels) not in (HAZARD_SLUGS, legacy):
        raise ModelError(f"{folder}: labels are not the 14 hazards in canonical order")
    return EncoderStage(folder, manifest, "hazard_logits", threads=threads, runtime=runtime, calls=calls)
