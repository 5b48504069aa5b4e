"""Makes a model folder out of a trained decoder: its system's published layout, calibrated, as it will be loaded."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

from stages.checkpoint import OVERLAP
from stages.encoder import cpu_flags
from stages.errors import ModelError
from stages.manifest import Manifest
from stages.registry import load_stage
from stages.stage import Stage
from stages.trained import NAME as TRAINED
from training.bases import Base
from training.data.mix import Splits
from training.draws import effective_shares
from training.golden import GOLDEN_TEXTS
from training.package import Provenance, calibrate, diagrams_of, trained, training_sets
from training.publish import publish
from training.recipe import Recipe
from training.systems import System

BASE_WEIGHTS = re.compile(r"base/.*\.safetensors")
PARITY = 1e-3  # logits, the stage that is loaded against the network that was trained
DOCUMENTS = 8  # for the length penalty: a decoder on a CPU is slow


def package_decoder(
    recipe: Recipe, system: System, base: Base, splits: Splits, provenance: Provenance, out: Path
) -> Manifest:
    """Writes the published layout and ``trained.json`` to ``out``; the manifest that comes back is for the card.

    Raises:
        ModelError: what was saved does not load, or computes something else than what was trained.
    """
    (out / TRAINED).unlink(missing_ok=True)
    publish(recipe, system, base, out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stage = load_stage(out, device=device, dtype="float32")
    difference = _parity(system, stage)
    calibration, figures = calibrate(
        stage,
        splits.calibration,
        effective_shares(splits.train, recipe.data),
        documents=DOCUMENTS,
        diagrams=diagrams_of(out),
    )
    figures = {"saved_difference_logits": round(difference, 6), **figures}
    base_files = {name: digest for name, digest in stage.info.files.items() if BASE_WEIGHTS.fullmatch(name)}
    found = {"metrics": figures, "calibration": calibration, "base_files": base_files}
    trained(provenance, splits).model_copy(update=found).save(out)
    info = load_stage(out, device=device, dtype="float32").info
    return Manifest(
        name=provenance.name,
        kind=info.kind,
        revision=info.revision,
        files=info.files,
        taxonomy=info.taxonomy,
        labels=list(info.labels),
        base=provenance.base,
        licence=provenance.licence,
        training_sets=training_sets(splits),
        metrics=figures,
        window_tokens=info.window_tokens,
        overlap=OVERLAP,
        pad_id=system.pad_id,
        quantisation="none (bfloat16)" if recipe.lora is None else "none (float16 adapter)",
        calibration=calibration,
        calibrated_on=f"{platform.machine()} {cpu_flags()}",
        golden=[],
        tolerance=PARITY,
    )


def _parity(system: System, stage: Stage) -> float:
    """The largest difference in logits over the golden texts.

    Raises:
        ModelError: it exceeds :data:`PARITY`.
    """
    worst = 0.0
    network = system.network.eval()
    for text in GOLDEN_TEXTS:
        window = stage.encode(text).windows[0]
        ids = torch.tensor([window.ids])
        with torch.inference_mode():
            unsafe, labels = network(ids, torch.ones_like(ids))
        (scores,) = stage.score([window])
        found = torch.tensor([scores.unsafe, *scores.labels])
        worst = max(worst, float((torch.cat([unsafe, labels[0]]) - found).abs().max()))
    if not worst <= PARITY:
        raise ModelError(f"what was saved differs by {worst:.2g} logits from what was trained, {PARITY} are allowed")
    return worst
