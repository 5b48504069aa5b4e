"""Makes a model folder out of a trained network: ONNX, int8, calibration, golden scores, manifest."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]
from torch import nn

from stages.encoder import MODEL, TOKENIZER, cpu_flags
from stages.manifest import CalibrationNumbers, Golden, Manifest, Scale, TrainingSet, file_hash, revision_of
from stages.registry import LOADERS
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Stage, Window
from stages.taxonomy import LEGACY9_VERSION, VERSION
from stages.trained import Trained
from training.calibrate import VERDICT, Head, choose_each, heads_of, stage_logits
from training.calibration_report import figures as figures_of
from training.calibration_report import html, report
from training.calibrators import quality
from training.data.mix import Example, Splits
from training.draws import effective_shares
from training.golden import GOLDEN_TEXTS
from training.length import DOCUMENTS, with_length_penalties
from training.quantise import assert_agreement, export_onnx, quantise, with_quantised_embeddings
from training.recipe import Recipe
from training.smooth import smoothed
from training.systems import System
from training.tokenizer import write_tokenizer
from training.validate import Predictions, summarise

# By system: the kind that loads it, the name of its label output, its taxonomy.
KINDS = {
    "tinysafe": ("tinysafe", "category_logits", "tinysafe-7@1"),
    "hazard": ("hazard", "hazard_logits", VERSION),
    "legacy9": ("hazard", "hazard_logits", LEGACY9_VERSION),
}
SOFTMAX = ("legacy9",)  # names hazards of what something else found unsafe, and does not judge
Precision = Literal["int8", "float32"]
MAX_OVERLAP, PARITY_TEXTS = 32, 400
SMOOTHING_TEXTS = 12  # of each source, on which the ranges of activations are measured
TOLERANCE = 0.15  # raw logits between CPUs: float32 sums in another order move a few activations over a rounding edge


@dataclass(frozen=True)
class Provenance:
    """What a manifest says about where the weights come from."""

    name: str
    base: str
    licence: str
    scripts: tuple[str, ...]


def training_sets(splits: Splits) -> list[TrainingSet]:
    """The sets that a model saw, with their licences."""
    return [TrainingSet(name=name, licence=terms[0]) for name, terms in sorted(splits.sets.items())]


def trained(provenance: Provenance, splits: Splits) -> Trained:
    """What stands beside weights that are saved in their system's published layout."""
    return Trained(
        name=provenance.name, base=provenance.base, licence=provenance.licence, training_sets=training_sets(splits)
    )


def package(
    network: nn.Module,
    recipe: Recipe,
    base: Path,
    system: System,
    splits: Splits,
    provenance: Provenance,
    out: Path,
    precision: Precision = "int8",
) -> Manifest:
    """Writes ``model.onnx``, ``tokenizer.json`` and ``manifest.json`` to ``out``, beside what lies there.

    Raises:
        ModelError: a parity gate failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    kind, output, taxonomy = KINDS[recipe.system]
    overlap = min(MAX_OVERLAP, recipe.data.max_tokens // 6)
    write_tokenizer(base, out / TOKENIZER)
    tokenizer = WindowTokenizer(out / TOKENIZER, window_tokens=recipe.data.max_tokens, overlap=overlap)
    metrics = {}
    if precision == "float32":
        export_onnx(network, out / MODEL, output)
    else:
        metrics = _write_int8(network, splits, tokenizer, system.pad_id, output, out / MODEL)
    files = {
        str(path.relative_to(out)): file_hash(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "README.md")
    }
    neutral = CalibrationNumbers(unsafe=Scale(slope=1, bias=0), labels=[Scale(slope=1, bias=0)] * len(system.labels))
    manifest = Manifest(
        name=provenance.name,
        kind=kind,
        revision=revision_of(files),
        files=files,
        taxonomy=taxonomy,
        labels=list(system.labels),
        base=provenance.base,
        licence=provenance.licence,
        training_sets=training_sets(splits),
        metrics=metrics,
        window_tokens=recipe.data.max_tokens,
        overlap=overlap,
        pad_id=system.pad_id,
        scripts=list(provenance.scripts),
        quantisation=precision,
        calibration=neutral,
        calibrated_on=f"{platform.machine()} {cpu_flags()}",
        golden=[],
        tolerance=TOLERANCE,
        judges=recipe.system not in SOFTMAX,
    )
    return _calibrated(manifest, out, splits.calibration, effective_shares(splits.train, recipe.data))


def _write_int8(
    network: nn.Module, splits: Splits, tokenizer: WindowTokenizer, pad_id: int, output: str, path: Path
) -> dict[str, float]:
    """Writes the quantised network; returns how near it is to the float32 one on held-out texts."""
    seen = _first_windows(tokenizer, [e for examples in splits.train.values() for e in examples[:SMOOTHING_TEXTS]])
    batches = [(torch.tensor([w.ids]), torch.ones(1, len(w), dtype=torch.long)) for w in seen]
    held_out = splits.calibration[:: max(1, len(splits.calibration) // PARITY_TEXTS)]
    windows = _first_windows(tokenizer, held_out)
    with tempfile.TemporaryDirectory() as scratch:
        fp32 = Path(scratch) / "fp32.onnx"
        export_onnx(smoothed(with_quantised_embeddings(network), batches), fp32, output)
        quantise(fp32, path)
        difference, agreement = assert_agreement(fp32, path, output, windows, pad_id)
    return {"int8_mean_difference_logits": round(difference, 4), "int8_sign_agreement": round(agreement, 4)}


def _first_windows(tokenizer: WindowTokenizer, examples: Sequence[Example]) -> list[Window]:
    return [tokenizer.encode(example.text).windows[0] for example in examples]


def _calibrated(manifest: Manifest, out: Path, examples: list[Example], shares: Mapping[str, float]) -> Manifest:
    stage = LOADERS[manifest.kind](out, manifest, 2)
    calibration, figures = calibrate(stage, examples, shares, diagrams=diagrams_of(out))
    metrics = {**manifest.metrics, **figures}
    update = {"calibration": calibration, "golden": golden_scores(stage), "metrics": metrics}
    finished = manifest.model_copy(update=update)
    finished.save(out)
    return finished


def diagrams_of(out: Path) -> Path:
    """The page of reliability diagrams beside a model folder: not in it, as it is no part of the model."""
    return out.parent / f"{out.name}-calibration.html"


def golden_scores(stage: Stage) -> list[Golden]:
    """The golden texts with the raw logits that a stage gives them."""
    golden = []
    for text in GOLDEN_TEXTS:
        scores = stage.score(stage.encode(text).windows[:1])[0]
        golden.append(
            Golden(text=text, unsafe=round(scores.unsafe, 5), labels=[round(float(x), 5) for x in scores.labels])
        )
    return golden


def calibrate(
    stage: Stage,
    examples: list[Example],
    shares: Mapping[str, float],
    *,
    documents: int = DOCUMENTS,
    diagrams: Path | None = None,
) -> tuple[CalibrationNumbers, dict[str, float]]:
    """Calibrates a stage on examples, every source by its share, and measures it on them.

    A stage that does not judge keeps its unsafe logit as it is, and has no length penalty. ``diagrams`` is the page of
    reliability diagrams to write.
    """
    unsafe, labels, _ = stage_logits(stage, [example.text for example in examples])
    heads = heads_of(unsafe, labels, examples, shares, stage.info.labels)
    chosen = choose_each(heads)
    scales = {name: one.scale for name, one in chosen.items()}
    if not stage.info.judges:
        scales[VERDICT], heads = Scale(slope=1, bias=0), heads[1:]
    found = report(heads, chosen, scales)
    if diagrams:
        name = f"{stage.info.name}@{stage.info.revision}"
        diagrams.write_text(html(name, "cascade train, cascade export", found), encoding="utf-8")
    calibration = CalibrationNumbers(unsafe=scales[VERDICT], labels=[scales[name] for name in stage.info.labels])
    if not stage.info.judges:
        figures = summarise(Predictions(examples, unsafe, labels))
        kept = {f"calibration_{name}": round(value, 4) for name, value in figures.items() if name.startswith("label")}
        return calibration, kept | figures_of(found)
    calibration = with_length_penalties(stage, calibration, examples, unsafe, labels, documents=documents)
    return calibration, _figures(heads[0], calibration.unsafe) | figures_of(found)


def _figures(verdict: Head, scale: Scale) -> dict[str, float]:
    """Figures of the binary head on the calibration split."""
    targets, weights, logits = verdict.targets, verdict.weights, verdict.logits
    if len(set(targets.tolist())) < 2:
        return {}
    return {
        "calibration_auroc": round(float(roc_auc_score(targets, logits, sample_weight=weights)), 4),
        "calibration_auprc": round(float(average_precision_score(targets, logits, sample_weight=weights)), 4),
        **quality(scale, logits, targets, weights),
    }
