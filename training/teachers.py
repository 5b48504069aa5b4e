"""What teachers say of the texts that a recipe trains on, for its network to learn from beside the labels.

Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531). A teacher is whatever ``cascade serve`` takes as a stage.
It reads as much of a text as the network will. Calibrated logits are kept in a file beside the checkpoints, by the
text's fingerprint, so that a run that goes on does not ask again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import track
from tokenizers import Tokenizer

from stages.errors import ModelError
from stages.registry import load_stage
from stages.stage import Stage
from training.calibrate import stage_logits
from training.data.groups import fingerprint
from training.data.labels import UNKNOWN
from training.data.mix import Splits
from training.data.rows import DataError
from training.draws import Rows, draws, number_of_draws
from training.recipe import Recipe

TEACHERS = "teachers.jsonl"  # beside the checkpoint
TEXTS_AT_ONCE = 256
OPEN_TERMS = ("apache-2.0", "mit")  # of models that a run with licences = "permissive" may learn from


def taught(
    splits: Splits, train: Rows, recipe: Recipe, tokenizer: Tokenizer, models: Mapping[str, str], out: Path
) -> tuple[Splits, str]:
    """The splits, where every training text that the run will draw carries its teachers' judgement, and who they are.

    Args:
        splits: of the recipe; ``train`` are those of their rows that it trains on.
        train: by source.
        recipe: with teachers.
        tokenizer: the network's, cutting at what it reads of a text.
        models: what a teacher's name stands for; a name that is missing is itself what ``load_stage`` takes.
        out: where the run's files are.

    Raises:
        DataError: texts are left to ask and the kept scores are other teachers', a teacher is named that the recipe
            does not have, or one's licence is not permissive where the recipe wants that.
        ModelError: a teacher cannot be used.
    """
    distil = recipe.distil
    if distil is None:
        return splits, ""
    unknown = sorted(models.keys() - distil.teachers.keys())
    if unknown:
        raise DataError(f"{recipe.name} has no teacher {unknown[0]!r}, only {', '.join(distil.teachers)}")
    drawn = {id(e): e for e in draws(train, recipe.data, number_of_draws(train, recipe), recipe.train.seed)}
    texts = {fingerprint(e.text): e.text for e in drawn.values() if not distil.sources or e.source in distil.sources}
    if not texts:
        return splits, ""
    kept = Kept(out / TEACHERS)
    names = list(distil.teachers)
    wanted = [key for key in texts if key not in kept.logits]
    if wanted:
        stages = [_open(name, models.get(name, name), recipe) for name in names]
        kept.begin([f"{stage.info.name}@{stage.info.revision}" for stage in stages])
        starts = range(0, len(wanted), TEXTS_AT_ONCE)
        for start in track(starts, description=f"{recipe.name}: {len(wanted)} texts to {len(names)} teachers"):
            keys = wanted[start : start + TEXTS_AT_ONCE]
            kept.add(keys, _judge([_as_read(texts[key], tokenizer) for key in keys], stages))
    weights = [distil.teachers[name] / sum(distil.teachers.values()) for name in names]
    judged = {key: sum(w * z for w, z in zip(weights, kept.logits[key], strict=True)) for key in texts}
    train = {
        source: [replace(e, teacher=judged.get(fingerprint(e.text), UNKNOWN)) for e in rows]
        for source, rows in splits.train.items()
    }
    named = ", ".join(f"{weight:.2g} of {teacher}" for weight, teacher in zip(weights, kept.teachers, strict=True))
    return replace(splits, train=train), named


class Kept:
    """The file of the teachers' logits: first the teachers, then a line for each text; never a text.

    Raises:
        DataError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.teachers = path, list[str]()
        self.logits: dict[str, list[float]] = {}
        if not path.is_file():
            return
        whole = path.read_text(encoding="utf-8")
        lines = whole[: whole.rfind("\n") + 1].splitlines()  # the last line may have been cut off
        try:
            if lines:
                self.teachers = json.loads(lines[0])["teachers"]
                self.logits = {row["id"]: row["logits"] for row in map(json.loads, lines[1:])}
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: not what teachers said: remove it to ask them again") from error

    def begin(self, teachers: Sequence[str]) -> None:
        """Makes sure that what follows is said by these teachers.

        Raises:
            DataError: what is there is of others.
        """
        if self.teachers and self.teachers != list(teachers):
            raise DataError(f"{self.path} is of {', '.join(self.teachers)}, not of {', '.join(teachers)}: remove it")
        self.teachers = list(teachers)
        rows = [{"id": key, "logits": logits} for key, logits in self.logits.items()]
        part = self.path.with_suffix(".part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text("".join(json.dumps(row) + "\n" for row in [{"teachers": self.teachers}, *rows]), "utf-8")
        os.replace(part, self.path)

    def add(self, keys: Sequence[str], logits: Sequence[list[float]]) -> None:
        """Keeps the logits of some texts."""
        with self.path.open("a", encoding="utf-8") as file:
            for key, row in zip(keys, logits, strict=True):
                self.logits[key] = row
                file.write(json.dumps({"id": key, "logits": row}) + "\n")


def _open(name: str, spec: str, recipe: Recipe) -> Stage:
    try:
        dtype = "bfloat16" if recipe.train.precision == "bf16" else "float32"
        stage = load_stage(spec, threads=os.cpu_count() or 1, dtype=dtype)
    except ModelError as error:
        raise ModelError(f"teacher {name}: {error}; name another with --teacher {name}=MODEL") from error
    if not stage.info.judges:
        raise ModelError(f"teacher {name}: {stage.info.name} does not judge safe against unsafe")
    if recipe.data.licences == "permissive" and stage.info.licence.lower() not in OPEN_TERMS:
        raise DataError(
            f"teacher {name}: {stage.info.name} is under {stage.info.licence}, and {recipe.name} is to learn from "
            "permissive data only: train by a recipe without teachers, or name another with --teacher"
        )
    return stage


def _judge(texts: Sequence[str], stages: Sequence[Stage]) -> list[list[float]]:
    """For each text the calibrated logit of each stage."""
    columns = []
    for stage in stages:
        unsafe, _, _ = stage_logits(stage, texts)
        # Rounded here and not in the file alone, so that a run that goes on learns from the same numbers.
        columns.append([round(stage.calibration.unsafe.logit(float(raw)), 4) for raw in unsafe])
    return [list(row) for row in zip(*columns, strict=True)]


def _as_read(text: str, tokenizer: Tokenizer) -> str:
    """The part of a text that the network reads."""
    offsets = tokenizer.encode(text).offsets
    return text[: max((end for _, end in offsets), default=0)] or text
