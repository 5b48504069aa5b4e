"""Fits a model folder to a runtime other than ONNX Runtime: its calibration and golden scores there.

Another runtime quantises the same activations in another way, so that the calibration that was fitted on ONNX Runtime
is a little off. What this writes into the manifest holds where the model runs on exactly what it ran on here
(``openvino-int8``, or ``openvino-bf16`` on a CPU with AMX); what stands there for other runtimes stays. A policy that
was certified on one calibration is refused with another.

    python -m training.runtimes --data DIR --recipe tinysafe --runtime openvino stages/weights/tinysafe
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.encoder import OPENVINO, NetworkStage, cpu_flags, replay_golden
from stages.errors import CascadeError, ModelError
from stages.manifest import Manifest, OnRuntime
from stages.registry import LOADERS
from training.data.mix import build_splits
from training.draws import effective_shares, rows_to_train_on
from training.package import calibrate, golden_scores
from training.recipe import Recipe, load_recipe

RUNTIMES = (OPENVINO,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits a model folder to a runtime; the exit code is 1 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="training.runtimes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the training sets")
    parser.add_argument("--recipe", required=True, help="whose calibration rows it was calibrated on")
    parser.add_argument("--runtime", choices=RUNTIMES, required=True, help="what is to run it")
    parser.add_argument("model", type=Path, help="a folder with a manifest")
    options = parser.parse_args(arguments)
    try:
        name, figures = fit(options.model, load_recipe(options.recipe), options.data, options.runtime)
    except CascadeError as error:
        print(f"training.runtimes: {error}", file=sys.stderr)
        return 1
    print(name, *(f"{key} {value}" for key, value in figures.items()), sep="\n")
    return 0


def fit(folder: Path, recipe: Recipe, data: Path, runtime: str) -> tuple[str, dict[str, float]]:
    """Writes the numbers of a runtime into a folder's manifest.

    Returns:
        What the model ran on, and the figures of its calibration there.

    Raises:
        ModelError: it is no model folder, or not one that this runtime runs.
        ScoreDriftError: its scores are not near those of ONNX Runtime.
        DataError: the data are not those of the recipe.
        DependencyError: the runtime is not installed.
    """
    manifest = Manifest.load(folder)
    stage = load(folder, manifest, runtime)
    splits = build_splits(data, recipe.data, recipe.system)
    shares = effective_shares(rows_to_train_on(splits.train, recipe), recipe.data)
    calibration, figures = calibrate(stage, splits.calibration, shares)
    own = OnRuntime(
        calibration=calibration,
        calibrated_on=f"{platform.machine()} {cpu_flags()}",
        golden=golden_scores(stage),
    )
    runtimes = {**manifest.runtimes, stage.info.runtime: own}
    manifest.model_copy(update={"runtimes": dict(sorted(runtimes.items()))}).save(folder)
    return stage.info.runtime, figures


def load(folder: Path, manifest: Manifest, runtime: str) -> NetworkStage:
    """The stage of a folder on a runtime, held to the golden scores of ONNX Runtime, whatever it has of its own."""
    if manifest.kind not in LOADERS:
        raise ModelError(f"{folder}: unknown kind {manifest.kind!r}, known are {', '.join(LOADERS)}")
    manifest.verify(folder)
    without = manifest.model_copy(update={"runtimes": {}})
    stage = LOADERS[manifest.kind](folder, without, 2, runtime)
    replay_golden(stage, without)
    return stage


if __name__ == "__main__":
    sys.exit(main())
