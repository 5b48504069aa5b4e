"""TinySafe: a dual-head encoder, one binary logit and 7 categories."""

from __future__ import annotations

from pathlib import Path

from stages.encoder import ONNXRUNTIME, EncoderStage
from stages.errors import ModelError
from stages.manifest import Manifest
from stages.taxonomy import TINYSAFE_CATEGORIES


def load(folder: Path, manifest: Manifest, threads: int, runtime: str = ONNXRUNTIME, calls: int = 1) -> EncoderStage:
    """The stage of a TinySafe model folder.

    Raises:
        DependencyError: OpenVINO is wanted and not installed.
        ModelError: its labels are not TinySafe's, or a file is no model.
    """
    if tuple(manifest.labels) != TINYSAFE_CATEGORIES:
        raise ModelError(f"{folder}: labels are not TinySafe's 7 categories in order")
    return EncoderStage(folder, manifest, "category_logits", threads=threads, runtime=runtime, calls=calls)
