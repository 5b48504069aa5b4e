"""How good the calibration of each head is: *raw logits, calibrators* -> ECE and Brier score before and after it.

A head is the verdict, "unsafe", or a label. Told are the calibrator that it has, what each kind of calibrator loses on
folds that it was not fitted on (negative log likelihood, by which the kind is chosen), and on all calibration rows,
every source by its share, ECE and Brier score without and with it. An export writes the figures into the manifest and
the diagrams beside the model folder. For a model that is there already

    python -m training.calibration_report --data DIR --recipe tinysafe stages/weights/tinysafe --out OUT

writes ``calibration.json``, ``calibration.md`` and ``calibration.html``; the model stays as it is.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cascade.evaluate import charts
from cascade.evaluate.calibration import Bin, reliability
from cascade.evaluate.page import page, table
from stages.errors import CascadeError, ModelError
from stages.manifest import CalibrationNumbers, Manifest, Scale
from stages.registry import load_stage
from training.calibrate import VERDICT, Head, choose_each, heads_of, stage_logits
from training.calibrators import METHODS, Chosen, calibrated_logits, method_of, probabilities, quality
from training.data.mix import build_splits
from training.draws import effective_shares, rows_to_train_on
from training.recipe import Recipe, load_recipe

COLUMNS = ("head", "calibrator", *(f"loss, {name}" for name in METHODS), "ECE before", "after", "Brier before", "after")
_FIGURES = (*(f"nll_{name}" for name in METHODS), "ece_before", "ece_after", "brier_before", "brier_after")
NOTE = (
    "Losses are cross-validated, in nats; of those that are within a thousandth of the least, the first is chosen. ECE "
    "and Brier score are of the calibration rows, on which the calibrator itself was fitted."
)


@dataclass(frozen=True)
class HeadReport:
    """What is told of one head; ``losses`` is empty where there are too few rows of a class to choose by."""

    name: str
    rows: int
    positives: int
    method: str
    losses: dict[str, float]
    quality: dict[str, float]
    before: list[Bin]
    after: list[Bin]


def report(heads: Sequence[Head], chosen: Mapping[str, Chosen], scales: Mapping[str, Scale]) -> list[HeadReport]:
    """Measures heads that have rows of both classes, by name with what was chosen for them and what they have."""
    return [
        HeadReport(
            name=head.name,
            rows=len(head.targets),
            positives=int(head.targets.sum()),
            method=method_of(scales[head.name]),
            losses={name: round(loss, 4) for name, loss in chosen[head.name].losses.items()},
            quality=quality(scales[head.name], head.logits, head.targets, head.weights),
            before=reliability(probabilities(head.logits), head.targets, head.weights, charts.RELIABILITY_BINS),
            after=reliability(
                probabilities(calibrated_logits(scales[head.name], head.logits)),
                head.targets,
                head.weights,
                charts.RELIABILITY_BINS,
            ),
        )
        for head in heads
        if len(set(head.targets.tolist())) == 2
    ]


def figures(found: Sequence[HeadReport]) -> dict[str, float]:
    """The numbers for a manifest's metrics, ``calibration.HEAD.FIGURE``; calibrators themselves show their kind."""
    return {
        f"calibration.{head.name}.{name}": value
        for head in found
        for name, value in ({f"nll_{kind}": loss for kind, loss in head.losses.items()} | head.quality).items()
    }


def rows_of(metrics: Mapping[str, float], methods: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """A row of :data:`COLUMNS` for each head that :func:`figures` wrote into a manifest's metrics."""
    for name, method in methods.items():
        if f"calibration.{name}.ece_after" in metrics:
            values = (metrics.get(f"calibration.{name}.{figure}") for figure in _FIGURES)
            yield (name, method, *("" if value is None else f"{value:.4f}" for value in values))


def methods_of(labels: Sequence[str], calibration: CalibrationNumbers) -> dict[str, str]:
    """What kind of calibrator each head has."""
    scales = zip((VERDICT, *labels), (calibration.unsafe, *calibration.labels), strict=True)
    return {name: method_of(scale) for name, scale in scales}


def markdown(rows: Iterator[tuple[str, ...]]) -> str:
    """The rows as a table in Markdown; nothing where there is none."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    if not lines:
        return ""
    head = [f"| {' | '.join(COLUMNS)} |", "| --- | --- |" + " ---: |" * (len(COLUMNS) - 2)]
    return "\n".join([*head, *lines])


def html(name: str, command: str, found: Sequence[HeadReport]) -> str:
    """A page with a reliability diagram of each head, before and after; it opens without a network."""
    rows = rows_of(figures(found), {head.name: head.method for head in found})
    parts = [f"<p>{NOTE}</p>", table(COLUMNS, rows)]
    for head in found:
        drawn = {
            when: ([(b.predicted, b.observed, b.weight) for b in bins], *_of(head.quality, when))
            for when, bins in (("before", head.before), ("after", head.after))
        }
        title = f"{head.name} ({head.method}): {head.positives} of {head.rows} rows"
        parts.append(charts.reliability(drawn, title=title, y_label=f"share that is {head.name}", unit="weight"))
    return page(f"Calibration of {name}", command, parts)


def _of(found: Mapping[str, float], when: str) -> tuple[float, float]:
    return found[f"ece_{when}"], found[f"brier_{when}"]


def measure(folder: Path, recipe: Recipe, data: Path) -> tuple[Manifest, list[HeadReport]]:
    """Measures the calibrators of a model folder on the calibration rows of a recipe.

    Raises:
        ModelError: it is no model folder, or its labels are not the recipe's.
        DataError: the data are not those of the recipe.
    """
    manifest = Manifest.load(folder)
    splits = build_splits(data, recipe.data, recipe.system)
    if any(len(example.labels) != len(manifest.labels) for example in splits.calibration[:1]):
        raise ModelError(f"{folder}: has other labels than the recipe {recipe.name}")
    shares = effective_shares(rows_to_train_on(splits.train, recipe), recipe.data)
    unsafe, labels, _ = stage_logits(load_stage(folder, threads=2), [example.text for example in splits.calibration])
    heads = heads_of(unsafe, labels, splits.calibration, shares, manifest.labels)
    heads = heads if manifest.judges else heads[1:]
    numbers = manifest.calibration
    scales = dict(zip((VERDICT, *manifest.labels), (numbers.unsafe, *numbers.labels), strict=True))
    return manifest, report(heads, choose_each(heads), scales)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures a model folder; the exit code is 1 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="training.calibration_report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the training sets")
    parser.add_argument("--recipe", required=True, help="whose calibration rows it was calibrated on")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("model", type=Path, help="a folder with a manifest")
    options = parser.parse_args(arguments)
    try:
        recipe = load_recipe(options.recipe)
        manifest, found = measure(options.model, recipe, options.data)
    except CascadeError as error:
        print(f"training.calibration_report: {error}", file=sys.stderr)
        return 1
    name = f"{manifest.name}@{manifest.revision}"
    command = shlex.join(["python", "-m", "training.calibration_report", *(arguments or sys.argv[1:])])
    rows = markdown(rows_of(figures(found), {head.name: head.method for head in found}))
    whole = {"model": name, "recipe": recipe.name, "heads": [asdict(head) for head in found]}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "calibration.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    (options.out / "calibration.md").write_text(f"# Calibration of {name}\n\n{NOTE}\n\n{rows}\n", encoding="utf-8")
    (options.out / "calibration.html").write_text(html(name, command, found), encoding="utf-8")
    print(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
