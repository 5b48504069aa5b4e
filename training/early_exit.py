"""Gives a network an early exit: texts that are plainly harmless leave it behind one of its first layers.

    python -m training.early_exit --data DIR --recipe tinysafe --layer 1 MODEL OUT

MODEL is a model folder of a recipe; OUT becomes one whose network stops behind that layer where the rest is not needed,
with the same calibration. The rest is needed where the whole network gives a calibrated probability of at least
``NEEDED`` that the text is unsafe, or ``NEEDED_LABEL`` that it carries a label; what is escalated, blocked or named
is decided by the whole network therefore. The head is fitted to the network's own scores on the recipe's training rows.
Its bar is the highest with which at most ``LOST`` of the calibration rows leave though the rest is needed. Both are
measured on the validation rows and put into the manifest's metrics.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray

from stages.encoder import MODEL, TOKENIZER, calibration_of
from stages.errors import CascadeError, ModelError
from stages.manifest import Manifest, file_hash, revision_of
from stages.registry import LOADERS
from stages.runtime.onnx import SLOWER
from stages.runtime.tokens import WindowTokenizer
from training.data.mix import Splits, build_splits
from training.draws import effective_shares
from training.exit_head import ExitHead, States, fit_exit, say
from training.exit_texts import Weighted, held_out_texts, training_texts
from training.golden import GOLDEN_TEXTS
from training.graft import state_of, tapped, with_exit
from training.package import golden_scores
from training.recipe import Recipe, load_recipe
from training.simplify import simplified

NEEDED, NEEDED_LABEL = 0.2, 0.5  # calibrated probabilities
LOST = 0.01  # of all windows, every source by its share
MARGIN = 0.25  # logits between the bar and every golden text: CPUs round differently
REPORT = 5000  # texts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Exit:
    """An exit: behind which layer, its head, its bar, and what it does on rows that it was not fitted on.

    ``share`` of all windows leave there, ``lost`` of all though the rest is needed.
    """

    layer: int
    head: ExitHead
    bar: float
    share: float
    lost: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the model with an exit; the exit code is 1 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="training.early_exit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the training sets")
    parser.add_argument("--recipe", required=True, help="what trained the model")
    parser.add_argument("--layer", type=int, default=1, help="behind which layer, counted from 1")
    parser.add_argument("model", type=Path, help="a model folder")
    parser.add_argument("out", type=Path, help="the folder to write")
    options = parser.parse_args(arguments)
    try:
        recipe = load_recipe(options.recipe)
        splits = build_splits(options.data, recipe.data, recipe.system)
        manifest = add_exit(options.model, options.out, recipe, splits, options.layer)
    except CascadeError as error:
        print(f"training.early_exit: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {manifest.name}@{manifest.revision}")
    print({name: value for name, value in manifest.metrics.items() if name.startswith("early_exit")})
    return 0


def add_exit(source: Path, out: Path, recipe: Recipe, splits: Splits, layer: int) -> Manifest:
    """Writes a model folder whose network has an early exit.

    Raises:
        ModelError: the model has another layout, or the new network computes something else than it should.
    """
    manifest = Manifest.load(source)
    manifest.verify(source)
    if set(manifest.files) != {MODEL, TOKENIZER}:
        raise ModelError(f"{source}: an exit wants a folder of {MODEL} and {TOKENIZER} alone")
    network = simplified(onnx.load(source / MODEL))
    found = fit(network, manifest, source, recipe, splits, layer)
    if out != source:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / TOKENIZER, out / TOKENIZER)
    onnx.save(with_exit(network, layer, found.head, found.bar), out / MODEL)
    files = {name: file_hash(out / name) for name in (MODEL, TOKENIZER)}
    figures = {
        "early_exit_layer": found.layer,
        "early_exit_share": round(found.share, 4),
        "early_exit_lost": round(found.lost, 4),
    }
    update = {"files": files, "revision": revision_of(files), "metrics": manifest.metrics | figures, "runtimes": {}}
    made = manifest.model_copy(update=update)
    stage = LOADERS[made.kind](out, made, 2)
    made = made.model_copy(update={"golden": golden_scores(stage)})
    made.save(out)
    return made


def fit(network: onnx.ModelProto, manifest: Manifest, folder: Path, recipe: Recipe, splits: Splits, layer: int) -> Exit:
    """The exit that is fitted to a network on a recipe's rows."""
    shares = effective_shares(splits.train, recipe.data)
    tap = Tap(network, manifest, folder, layer)
    seed = recipe.train.seed
    head = fit_exit(tap.states(training_texts(splits, recipe.data, seed)), seed)
    calibration = tap.states(held_out_texts(splits.calibration, shares))
    bar = highest_bar(say(head, calibration)[:, 0], calibration)
    golden = tap.states([Weighted(text, 1.0) for text in GOLDEN_TEXTS])
    bar = clear_of(bar, say(head, golden)[:, 0])
    validation = tap.states(held_out_texts(splits.validation, shares))
    leaves = say(head, validation)[:, 0] <= bar
    weights = validation.weights / validation.weights.sum()
    lost = leaves & (validation.needed > 0)
    return Exit(layer, head, bar, float(weights[leaves].sum()), float(weights[lost].sum()))


def highest_bar(need: NDArray[np.float32], states: States, lost: float = LOST) -> float:
    """The highest logit of "needed" up to which at most a share of what is needed leaves, all by weight."""
    order = np.argsort(need, kind="stable")
    shares = np.cumsum(states.weights[order] * states.needed[order]) / states.weights.sum()
    count = int(np.searchsorted(shares, lost, side="right"))
    return float(need[order[count - 1]]) if count else -np.inf


def clear_of(bar: float, need: NDArray[np.float32], margin: float = MARGIN) -> float:
    """The highest bar up to ``bar`` that no logit is near to: on another CPU each of them has to go the same way."""
    for logit in sorted(map(float, need), reverse=True):
        if abs(logit - bar) < margin:
            bar = logit - margin
    return bar


class Tap:
    """Runs a network and keeps what one of its layers saw."""

    def __init__(self, network: onnx.ModelProto, manifest: Manifest, folder: Path, layer: int) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        tensor = state_of(network, layer)
        self._session = ort.InferenceSession(
            tapped(network, tensor).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(SLOWER),
        )
        self._outputs = [*(output.name for output in network.graph.output), tensor]
        self._calibration = calibration_of(manifest.calibration)
        self._tokenizer = WindowTokenizer(
            folder / TOKENIZER, window_tokens=manifest.window_tokens, overlap=manifest.overlap
        )

    def states(self, texts: Sequence[Weighted]) -> States:
        """The states of each text's first window."""
        hidden, lengths, logits = [], [], []
        for number, weighted in enumerate(texts):
            ids = np.array([self._tokenizer.encode(weighted.text).windows[0].ids])
            unsafe, labels, states = self._session.run(
                self._outputs, {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            )
            hidden.append(states[0].astype(np.float16))
            lengths.append(ids.shape[1])
            logits.append([*unsafe.ravel(), *labels.ravel()])
            if number % REPORT == 0:
                print(f"states: {number} of {len(texts)}", file=sys.stderr)
        found = np.array(logits, np.float32)
        return States(
            hidden=np.concatenate(hidden),
            ends=np.cumsum(lengths),
            logits=found,
            needed=self._needed(found),
            weights=np.array([weighted.weight for weighted in texts]),
        )

    def _needed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        unsafe, labels = self._calibration.unsafe, self._calibration.labels
        return np.array(
            [
                unsafe(float(row[0])) >= NEEDED
                or any(scale(float(logit)) >= NEEDED_LABEL for scale, logit in zip(labels, row[1:], strict=True))
                for row in logits
            ],
            np.float32,
        )


if __name__ == "__main__":
    sys.exit(main())
