"""Trains a small analogue of each seed's recipe and scores each model alone, into one table.

    python -m training.table --data DIR --eval DIR --out DIR --model tinysafe --model permissive=runs/permissive/model

Each recipe is trained by ``cascade train`` on at most ``--max-rows`` rows and ``--epochs`` epochs, unless a finished
model lies in ``OUT/RECIPE``; a run that was stopped goes on. Each of these models, and of those named by ``--model``,
then judges the evaluation sets as the one stage of a pipeline. F1, recall and false-positive rate are those at a
calibrated probability of 0.5, which was chosen before any evaluation set was seen. ``OUT/table.json`` keeps everything,
``OUT/table.md`` the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.build import build_pipeline
from cascade.bulk import check_patiently, in_order
from cascade.content import check_request
from cascade.evaluate.hazards import score_hazards, true_hazard
from cascade.evaluate.metrics import bootstrap, decision_metrics, ranking_metrics
from cascade.evaluate.rows import LabelledSet, Row, read_folder
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import CheckResponse
from stages.errors import CascadeError
from stages.taxonomy import HAZARD_INDEX
from training.loop import CHECKPOINT
from training.recipe import load_recipe

BASES = {  # of the backbones that this project can fetch, the one nearest to the seed's own
    "tinysafe-v1": "minilm-l6",
    "tinysafe-v2": "minilm-l6",
    "hazard-legacy9": "me5-small",
    "constitutional": "smollm2-135m",
    "duoguard": "smollm2-135m",
}
THRESHOLD, IN_FLIGHT, RESAMPLES = 0.5, 16, 200
SHOWN = {"both": ("f1", "auprc"), "harmless": ("fpr",), "unsafe": ("recall",)}  # by the classes that a set has
Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what is missing, scores everything, writes the table; the exit code is 1 if that cannot be done."""
    try:
        _make(_parse(arguments))
    except CascadeError as error:
        print(f"training.table: {error}", file=sys.stderr)
        return 1
    return 0


def _make(options: argparse.Namespace) -> None:
    models = {Path(name).stem: str(_trained(name, options)) for name in options.recipe or BASES} | dict(options.model)
    sets = read_folder(options.eval, limit=options.limit)
    options.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, Figures] = {}
    for label, spec in models.items():
        table[label] = score(spec, sets, seed=options.seed)
        # After each model: a decoder takes long on a CPU, and whoever stops it keeps what is there.
        text = json.dumps({"threshold": THRESHOLD, "limit": options.limit, "models": table}, indent=1)
        (options.out / "table.json").write_text(text + "\n", encoding="utf-8")
        (options.out / "table.md").write_text(markdown(table), encoding="utf-8")
    print(markdown(table), end="")


def score(spec: str, sets: Sequence[LabelledSet], *, seed: int = 0) -> Figures:
    """What a model is, and its figures on each set and cohort when it judges alone.

    Raises:
        CascadeError: the model cannot be used, or cannot judge a row; the message names the row's id.
    """
    return asyncio.run(_score(spec, sets, seed))


async def _score(spec: str, sets: Sequence[LabelledSet], seed: int) -> Figures:
    pipeline = build_pipeline(stage1_spec=spec, stage2_spec=None)
    info = pipeline.stages["stage1"].stage.info
    try:
        found = {labelled.name: await _answers(pipeline, labelled.rows) for labelled in sets}
    finally:
        await pipeline.close()
    return {
        "model": f"{info.name}@{info.revision}",
        "runtime": info.runtime,
        "licence": info.licence,
        "sets": {labelled.name: _figures(labelled, found[labelled.name], info.judges, seed) for labelled in sets},
    }


async def _answers(pipeline: Pipeline, rows: Sequence[Row]) -> list[CheckResponse]:
    answers: list[CheckResponse] = []

    async def judge(row: Row) -> CheckResponse:
        answer = await check_patiently(pipeline, check_request(row.text, row.response, request_id="-"))
        if answer.degraded:
            raise CascadeError(f"row {row.id}: degraded answer: {answer.degraded_reason}")
        return answer

    await in_order(
        rows,
        judge,
        lambda row, answer: answers.append(answer),
        in_flight=IN_FLIGHT,
        characters=lambda row: len(row.text) + len(row.response or ""),
    )
    return answers


def _figures(labelled: LabelledSet, answers: Sequence[CheckResponse], judges: bool, seed: int) -> Figures:
    """Binary figures of each cohort, if the model tells safe from unsafe, and how well it names hazards."""
    figures: Figures = {}
    probability = np.array([answer.stages[0].calibrated_probability for answer in answers])
    for cohort, indices in labelled.cohorts().items() if judges else ():
        known = [i for i in indices if labelled.rows[i].unsafe is not None]
        if known:
            positive = np.array([bool(labelled.rows[i].unsafe) for i in known])
            figures[cohort] = _binary(positive, probability[known], seed)
    hazards = _hazards(labelled, answers, seed)
    return figures | ({} if hazards is None else {"hazards": hazards})


def _binary(positive: NDArray[np.bool_], probability: NDArray[np.float64], seed: int) -> Figures:
    classes = "both" if 0 < positive.sum() < len(positive) else "unsafe" if positive.any() else "harmless"
    metrics = decision_metrics(positive, probability >= THRESHOLD) | ranking_metrics(positive, probability)
    estimates = bootstrap(metrics, len(positive), seed=seed, resamples=RESAMPLES)
    found = {name: estimate.to_dict() for name, estimate in estimates.items()}
    return {"rows": len(positive), "classes": classes, **found}


def _hazards(labelled: LabelledSet, answers: Sequence[CheckResponse], seed: int) -> Figures | None:
    """Macro-F1 over AILuminate's hazards; None where the set does not name them or the model scores none."""
    named = [(i, slug) for i, row in enumerate(labelled.rows) if (slug := true_hazard(row.labels)) is not None]
    scores = np.full((len(named), len(HAZARD_INDEX)), np.nan)
    for place, (i, _) in enumerate(named):
        for hazard in answers[i].hazards:
            if hazard.HasField("probability"):
                scores[place, HAZARD_INDEX[hazard.slug]] = hazard.probability
    if not named or np.isnan(scores).all():
        return None
    report = score_hazards([slug for _, slug in named], scores, seed=seed, resamples=RESAMPLES)
    return {"rows": report.rows, "macro_f1": report.macro_f1.to_dict()}


def markdown(table: Mapping[str, Figures]) -> str:
    """The table: a row a model, a column a figure; "-" where a model or a set does not have it."""
    columns = list(dict.fromkeys(column for figures in table.values() for column, _ in _cells(figures)))
    lines = [
        "| model | " + " | ".join(" ".join(column) for column in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for label, figures in table.items():
        cells = dict(_cells(figures))
        lines.append(f"| {label} | " + " | ".join(cells.get(column, "-") for column in columns) + " |")
    return "\n".join(lines) + "\n"


def _cells(figures: Figures) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, parts in figures["sets"].items():
        for part, found in parts.items():
            shown = ("macro_f1",) if part == "hazards" else SHOWN[found["classes"]]
            where = (name,) if part in ("all rows", "hazards") else (name, f"({part})")
            for metric in shown:
                value = found[metric]["value"]
                yield (*where, metric), "-" if value is None else f"{value:.3f}"


def _trained(name: str, options: argparse.Namespace) -> Path:
    """The model of a recipe, by name or by path, trained if it is not there yet."""
    out: Path = options.out / Path(name).stem
    if (out / "CARD.md").is_file():  # written last
        return out / "model"
    base = dict(options.base).get(name) or BASES.get(name, load_recipe(name).base)
    arguments = ["--data", options.data, "--out", out, "--base", base]
    arguments += ["--max-rows", options.max_rows, "--epochs", options.epochs]
    resume = ["--resume"] if (out / CHECKPOINT).is_file() else []
    command = [sys.executable, "-m", "cascade.cli", "train", name, *map(str, arguments), *resume]
    if subprocess.run(command, check=False).returncode:
        raise CascadeError(f"{name} was not trained; its own message stands above")
    return out / "model"


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value or name


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.table", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="training sets")
    parser.add_argument("--eval", type=Path, required=True, help="evaluation sets")
    parser.add_argument("--out", type=Path, required=True, help="a folder for runs and table")
    parser.add_argument("--recipe", action="append", help="only this one, a name or a .toml; may be given again")
    parser.add_argument("--base", type=_pair, action="append", default=[], metavar="RECIPE=BASE", help="its backbone")
    parser.add_argument("--model", type=_pair, action="append", default=[], metavar="LABEL=MODEL", help="one more row")
    parser.add_argument("--max-rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--limit", type=int, help="rows of each evaluation set")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
