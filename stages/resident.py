"""Loads a stage to stay on torch: a hazard model folder as base and adapters, or what a system publishes.

A model folder's ``model.onnx`` is its merged, quantised form for CPUs. Here its parts run instead, in float32 or
bfloat16, so that further adapters can share the one base that is in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.encoder import TOKENIZER, NetworkStage, calibration_of
from stages.errors import DependencyError, ModelError, ScoreDriftError
from stages.manifest import NAME, Manifest, file_hash
from stages.registry import load_stage, resolve
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Stage

PARTS = "base/config.json"
DRIFT = 0.5  # mean difference in logits; int8 against float32 is below 0.1, another model's weights are far above

log = logging.getLogger(__name__)


def load_resident(
    spec: str | Path, *, device: str = "cpu", dtype: str | None = None, adapters: Mapping[str, Path] | None = None
) -> Stage:
    """Loads a model on torch.

    Args:
        spec: an embedded name, a model folder, a folder as published, or a hub id.
        device: "cpu", "cuda" or "cuda:N".
        dtype: "float32" or "bfloat16"; None for what the device does best.
        adapters: adapters beside the model's own, by name: adapter folders, or model folders of which the adapter is
            taken with its calibration. A bare adapter folder is read on the model's own calibration.

    Raises:
        ModelError: no such model, a file is missing or tampered with, or an adapter does not belong to the base.
        DependencyError: torch or a package beside it is missing, or there is no such device.
    """
    folder = resolve(spec)
    try:
        if (folder / NAME).exists():
            return _load_parts(folder, device, dtype, dict(adapters or {}))
        if adapters:
            raise ModelError(f"{folder}: it takes no adapters; only a hazard model of base and adapter does")
        return load_stage(spec, device=device, dtype=dtype)
    except ImportError as error:
        raise DependencyError(f"torch needs {error.name}: pip install 'safety-cascade[gpu]'") from error
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which this module does not import
            raise
        raise ModelError(f"{folder}: the memory of {device} does not hold the model") from error


def _load_parts(folder: Path, device: str, dtype: str | None, adapters: dict[str, Path]) -> NetworkStage:
    manifest = _verified(folder)
    if manifest.kind != "hazard" or PARTS not in manifest.files:
        raise ModelError(f"{folder}: only a hazard model with base and adapter runs on torch, this has ONNX alone")

    from stages.hazard.adapted import adapter_folder, load_adapted, run_adapted
    from stages.runtime.torch import TorchNetwork

    calibrations = {}
    for name, path in adapters.items():
        if (path / NAME).exists():
            other = _verified(path)
            if other.labels != manifest.labels:
                raise ModelError(f"{path}: an adapter for other labels than {folder}'s")
            calibrations[name] = calibration_of(other.calibration)
        log.info("adapter", extra={"adapter": name, "sha256": _hash(adapter_folder(path))})
    module = load_adapted(folder, len(manifest.labels), adapters=adapters, attention="sdpa")
    network = TorchNetwork(module, device=device, dtype=dtype, pad_id=manifest.pad_id, forward=run_adapted)
    calibration = replace(calibration_of(manifest.calibration), adapters=calibrations)
    info = replace(manifest.info(), device=str(network.device), runtime=network.runtime, adapters=tuple(adapters))
    tokenizer = WindowTokenizer(folder / TOKENIZER, window_tokens=manifest.window_tokens, overlap=manifest.overlap)
    stage = NetworkStage(info, calibration, tokenizer, network)
    _replay(stage, manifest)
    return stage


def _verified(folder: Path) -> Manifest:
    manifest = Manifest.load(folder)
    manifest.verify(folder)
    return manifest


def _hash(adapter: Path) -> str:
    return file_hash(adapter / "adapter_model.safetensors")


def _replay(stage: NetworkStage, manifest: Manifest) -> None:
    """Scores the golden texts: the parts must be those of the quantised file that the manifest's scores come from."""
    windows = [stage.encode(golden.text).windows[0] for golden in manifest.golden]
    if not windows:
        return
    found = np.array([[scores.unsafe, *scores.labels] for scores in stage.score(windows)])
    expected = np.array([[golden.unsafe, *golden.labels] for golden in manifest.golden])
    difference = float(np.abs(found - expected).mean())
    if not difference <= DRIFT:
        raise ScoreDriftError(
            f"{manifest.name}@{manifest.revision}: base and adapter differ from the manifest's golden scores by "
            f"{difference:.2f} logits on average on {stage.info.device}, {DRIFT} are allowed"
        )
