"""What both stages said of labelled texts, without the texts: *JSONL log, or cache* <-> rows -> arrays.

A line is one of two things:

- a row of scores, as ``cascade tune`` keeps them beside its output: ``id, unsafe, labels, lang, tokens, stage1, stage2,
  stage1_labels{name: p}, hazards{slug: p}, stage1_hazards{slug: p}, triggers[], models{stage1, stage2}``, all
  probabilities calibrated and the models as NAME@REVISION; ``hazards`` are those of an answer of both stages,
  ``stage1_hazards`` those of an answer of stage 1 alone, if it names any;
- a labelled answer: ``unsafe``, and optionally ``id, labels, lang``, beside ``result``, a ``CheckResponse`` in JSON as
  ``cascade scan`` writes it. Both stages must have answered, as they do on what is audited.

A first line with the key ``scored`` says which models and which data a cache is of.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cascade.evaluate.rows import DataError, open_text
from stages.taxonomy import HAZARD_INDEX

HEADER = "scored"
STAGES = ("stage1", "stage2")


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One labelled text as both stages see it. ``unsafe`` is None where there is no honest label."""

    id: str
    unsafe: bool | None
    labels: tuple[str, ...]
    lang: str
    tokens: int
    stage1: float
    stage2: float
    stage1_labels: Mapping[str, float]
    hazards: Mapping[str, float]
    stage1_hazards: Mapping[str, float]
    triggers: tuple[str, ...]


def read_log(path: Path, models: Mapping[str, str], *, answers: bool = True) -> list[ScoredRow]:
    """Reads a log or a cache.

    Args:
        path: JSONL, gzipped or not.
        models: NAME@REVISION of the loaded "stage1" and "stage2".
        answers: whether an answer of both stages tells what stage 1 alone would have said of hazards and categories.

    Raises:
        DataError: a line is no row, a score is no probability, or other models scored it; the message names the line.
    """
    rows: list[ScoredRow] = []
    header: dict[str, Any] = {}
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path.name}:{number}"
                raw = _object(line, where)
                if HEADER in raw:
                    header = raw[HEADER]
                else:
                    if "result" in raw and not answers:
                        raise DataError(f"{where}: these stages share labels, so that an answer of both does not tell "
                                        "what stage 1 alone would say: tune from scores")  # fmt: skip
                    rows.append(_row(raw, where, models, header.get("models", {})))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: cannot be read as (gzipped) UTF-8 text") from error
    if not rows:
        raise DataError(f"{path.name}: has no rows")
    return rows


def read_header(path: Path) -> dict[str, Any] | None:
    """What a cache is of; None where there is no cache, or it has no header."""
    try:
        with path.open(encoding="utf-8") as lines:
            found = json.loads(lines.readline()).get(HEADER)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None


def write_cache(path: Path, header: Mapping[str, Any], rows: Iterable[ScoredRow]) -> None:
    """Writes a cache; it appears under its name only when it is complete."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(json.dumps({HEADER: header}) + "\n")
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
    os.replace(part, path)


def row_of_answer(
    row: Mapping[str, Any], answer: Mapping[str, Any], where: str, stages: Sequence[str] = STAGES
) -> ScoredRow:
    """The scores in an answer, a ``CheckResponse`` in JSON; ``row`` has the labels, ``where`` names it in errors.

    ``stages`` are those that must have answered; without stage 2 its probability is 0.

    Raises:
        DataError: a stage did not answer, or a score is no probability.
    """
    reports = {stage.get("name"): stage for stage in _list(answer, "stages", where)}
    for name in stages:
        if name not in reports:
            raise DataError(f"{where}: {name} did not answer; a log to tune from needs both stages on every row")
    coverage = answer.get("coverage") or {}
    second = reports["stage2"].get("calibratedProbability") if "stage2" in reports else 0.0
    return ScoredRow(
        **_labels(row, where),
        tokens=int(coverage.get("tokensTotal", 0)),
        stage1=_probability(reports["stage1"].get("calibratedProbability"), "stage1", where),
        stage2=_probability(second, "stage2", where),
        stage1_labels=_named(_list(answer, "categories", where), "name", where),
        hazards=_named(_list(answer, "hazards", where), "slug", where),
        stage1_hazards={},
        triggers=tuple((answer.get("route") or {}).get("triggers", ())),
    )


def _row(raw: dict[str, Any], where: str, loaded: Mapping[str, str], of_header: Mapping[str, str]) -> ScoredRow:
    if "result" in raw:
        answer = raw["result"]
        if not isinstance(answer, dict):
            raise DataError(f"{where}: no answer")
        row = row_of_answer(raw, answer, where)
        said = {stage["name"]: f"{stage.get('model')}@{stage.get('revision')}" for stage in answer["stages"]}
        _check_models(said, loaded, where)
        return row
    _check_models(raw.get("models", of_header), loaded, where)
    row = ScoredRow(
        **_labels(raw, where),
        tokens=int(raw.get("tokens", 0)),
        stage1=_probability(raw.get("stage1"), "stage1", where),
        stage2=_probability(raw.get("stage2"), "stage2", where),
        stage1_labels=_probabilities(raw.get("stage1_labels", {}), where),
        hazards=_probabilities(raw.get("hazards", {}), where),
        stage1_hazards=_probabilities(raw.get("stage1_hazards", {}), where),
        triggers=tuple(raw.get("triggers", ())),
    )
    unknown = sorted((row.hazards.keys() | row.stage1_hazards.keys()) - HAZARD_INDEX.keys())
    if unknown:
        raise DataError(f"{where}: {unknown[0]!r} is no hazard")
    return row


def _check_models(said: Any, loaded: Mapping[str, str], where: str) -> None:
    for name in STAGES:
        model = said.get(name) if isinstance(said, dict) else None
        if model is None:
            raise DataError(f"{where}: does not say which model {name} was")
        if model != loaded[name]:
            raise DataError(f"{where}: was scored by {model} as {name}, but {loaded[name]} is loaded")


def _labels(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keys that say what a row is, whichever way its scores are written."""
    if "unsafe" not in raw or raw["unsafe"] not in (0, 1, None):
        raise DataError(f"{where}: 'unsafe' must be 1, 0 or null")
    labels = raw.get("labels") or []
    if not isinstance(labels, list):
        raise DataError(f"{where}: 'labels' must be a list")
    return {
        "id": str(raw.get("id", where)),
        "unsafe": None if raw["unsafe"] is None else bool(raw["unsafe"]),
        "labels": tuple(map(str, labels)),
        "lang": str(raw.get("lang") or ""),
    }


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        raw = json.loads(line)
    except ValueError:
        raise DataError(f"{where}: not JSON") from None
    if not isinstance(raw, dict):
        raise DataError(f"{where}: no JSON object")
    return raw


def _list(raw: Mapping[str, Any], key: str, where: str) -> Sequence[dict[str, Any]]:
    found = raw.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"{where}: {key!r} must be a list of objects")
    return found


def _named(items: Sequence[Mapping[str, Any]], key: str, where: str) -> dict[str, float]:
    return _probabilities({item.get(key): item["probability"] for item in items if "probability" in item}, where)


def _probabilities(raw: Any, where: str) -> dict[str, float]:
    if not isinstance(raw, dict):
        raise DataError(f"{where}: scores of labels must be an object")
    return {str(name): _probability(value, str(name), where) for name, value in raw.items()}


def _probability(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: the score of {name} is no number")
    if not 0 <= value <= 1:
        raise DataError(f"{where}: the score of {name} lies outside of 0 to 1; calibrated probabilities are wanted")
    return float(value)
