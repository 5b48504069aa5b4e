"""Fits the length penalties: what the largest window logit of harmless text gains each time that the text doubles.

The largest logit of n windows stays below T with the probability ``F(T) ** n``, where F is the distribution of one
window's. So what documents of n windows exceed in a share *a* of cases is the quantile ``(1 - a) ** (1 / n)`` of F. The
penalty is the least with which documents of 32 windows, some 5,000 words, exceed the level where thresholds lie in no
larger share of cases than short texts do, or than ``ALLOWED``. It is fitted at that level, not lower: there scores grow
faster, and a penalty that makes up for it hides what is buried in long texts. Each label has one of its own: one that
no harmless window comes near needs none. Windows of a real document resemble each other, and such documents are flagged
rather less often than those of the fit, which are made of many texts.

    python -m training.length --data DIR --recipe tinysafe stages/weights/tinysafe

fits those of a model that is there again, on the recipe's calibration rows, and writes them into its manifest; training
itself fits them with the rest.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq  # type: ignore[import-untyped]

from stages.encoder import calibration_of
from stages.errors import CascadeError, ModelError
from stages.manifest import CalibrationNumbers, Manifest
from stages.registry import load_stage
from stages.stage import Calibration, Calibrator, Stage
from training.calibrate import stage_logits
from training.data.mix import Example, build_splits
from training.recipe import load_recipe

WINDOWS, DOCUMENTS = 32, 60
LEVEL, ALLOWED = 0.8, 0.02  # of the verdict: thresholds fitted to traffic lie near it
LABEL_LEVEL, LABEL_ALLOWED = 0.3, 0.01  # of a label: it is rare, and there are many of them
_BATCH = 16  # windows that are scored at once
_FAR = 1e3  # raw logits that no network gives

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LengthPenalties:
    """Raw logits per doubling, at least 0: the verdict's and each label's; see :class:`stages.stage.Calibration`."""

    verdict: float
    labels: tuple[float, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits the penalties of a model folder again; the exit code is 1 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="training.length", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the training sets")
    parser.add_argument("--recipe", required=True, help="whose calibration rows it was calibrated on")
    parser.add_argument("model", type=Path, help="a folder with a manifest")
    options = parser.parse_args(arguments)
    try:
        recipe, manifest = load_recipe(options.recipe), Manifest.load(options.model)
        if not manifest.judges:
            raise ModelError(f"{options.model}: it does not judge, so that it has no length penalties")
        examples = build_splits(options.data, recipe.data, recipe.system).calibration
        stage = load_stage(options.model, threads=2)
        unsafe, labels, _ = stage_logits(stage, [example.text for example in examples])
        calibration = with_length_penalties(stage, manifest.calibration, examples, unsafe, labels)
        manifest.model_copy(update={"calibration": calibration}).save(options.model)
    except CascadeError as error:
        print(f"training.length: {error}", file=sys.stderr)
        return 1
    print("verdict", calibration.length_penalty)
    for label, penalty in zip(manifest.labels, calibration.label_length_penalties, strict=False):
        print(label, penalty)
    return 0


def with_length_penalties(
    stage: Stage,
    calibration: CalibrationNumbers,
    examples: Sequence[Example],
    unsafe: Array,
    labels: Array,
    *,
    documents: int = DOCUMENTS,
) -> CalibrationNumbers:
    """The calibration with the length penalties that :func:`fit_length_penalties` finds on its harmless examples."""
    harmless = [i for i, example in enumerate(examples) if example.unsafe == 0]
    if not harmless:
        return calibration
    texts, fitted = [examples[i].text for i in harmless], calibration_of(calibration)
    found = fit_length_penalties(stage, fitted, texts, unsafe[harmless], labels[harmless], documents=documents)
    return calibration.model_copy(
        update={"length_penalty": found.verdict, "label_length_penalties": list(found.labels)}
    )


def fit_length_penalties(
    stage: Stage,
    calibration: Calibration,
    harmless: Sequence[str],
    unsafe: Array,
    labels: Array,
    seed: int = 0,
    *,
    documents: int = DOCUMENTS,
) -> LengthPenalties:
    """The penalties for :func:`cascade.merging.segments.length_calibrated`.

    Args:
        stage: the one that serves.
        calibration: of its logits.
        harmless: held-out texts, of which long documents are made.
        unsafe: the stage's raw logits of these texts, [texts].
        labels: the same of its labels, [texts, labels].
        seed: of the documents.
        documents: how many of them, each of about :data:`WINDOWS` windows.
    """
    rng = random.Random(seed)
    lengths = [(text, stage.encode(text).tokens) for text in harmless if len(text) < 4000]
    size = WINDOWS * stage.info.window_tokens * 0.8
    windows = [window for _ in range(documents) for window in stage.encode(_document(lengths, size, rng)).windows]
    batches = [windows[start : start + _BATCH] for start in range(0, len(windows), _BATCH)]
    scores = [score for batch in batches for score in stage.score(batch)]
    long = np.array([score.unsafe for score in scores])
    by_label = np.array([score.labels for score in scores])
    return LengthPenalties(
        _penalty(long, unsafe, calibration.unsafe, LEVEL, ALLOWED),
        tuple(
            _penalty(by_label[:, i], labels[:, i], calibrator, LABEL_LEVEL, LABEL_ALLOWED)
            for i, calibrator in enumerate(calibration.labels)
        ),
    )


def _penalty(windows: Array, short: Array, calibrator: Calibrator, level: float, allowed: float) -> float:
    threshold = _raw(calibrator, level)
    if not windows.min() < threshold <= windows.max():  # none comes near, or all are beyond it
        return 0.0
    share = max(allowed, float(np.mean(short >= threshold)))
    exceeded = float(np.quantile(windows, (1 - share) ** (1 / WINDOWS)))
    return max(0.0, round((exceeded - threshold) / float(np.log2(WINDOWS)), 4))


def _raw(calibrator: Calibrator, probability: float) -> float:
    """The raw logit with this calibrated probability."""
    wanted = float(np.log(probability / (1 - probability)))
    if calibrator.logit(_FAR) <= wanted:
        return _FAR
    if calibrator.logit(-_FAR) >= wanted:
        return -_FAR
    return float(brentq(lambda raw: calibrator.logit(raw) - wanted, -_FAR, _FAR))


def _document(lengths: Sequence[tuple[str, int]], tokens: float, rng: random.Random) -> str:
    pieces, total = [], 0
    while total < tokens:
        text, count = rng.choice(lengths)
        pieces.append(text)
        total += count
    return "\n\n".join(pieces)


if __name__ == "__main__":
    sys.exit(main())
