"""What both stages said of labelled texts, without the texts: *JSONL log, or cache* <-> rows -> arrays.

A line is one of two things:

- a row of scores, as ``cascade tune`` keeps them beside its output: ``id, unsafe, labels, lang, tokens, stage1, stage2,
  stage1_labels{name: p}, hazards{slug: p}, stage1_hazards{slug: p}, triggers[], models{stage1, stage2}``, all
  probabilities calibrated and the models as NAME@REVISION; ``hazards`` are those of an answer of both stages,
  ``stage1_hazards`` those of an answer of stage 1 alone, if it names any;
- a labelled answer: ``unsafe``, and optionally ``id, labels, lang``, beside ``result``, a ``CheckResponse`` in JSON as
  ``cascade scan`` and the audit log of a server write it. Those count that the random audit drew (``route.audited``):
  on them both stages have answered, and they alone are a random sample. A content that came again was drawn again, so
  that of a server's records with equal hashes one counts. What no promise speaks of is passed over: degraded answers,
  records of generations and of calls that had no answer, and conversations, whose scores hang on the thresholds that
  were in force.

A first line with the key ``scored`` says which models, which data and which rules of scoring a cache is of.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cascade.evaluate.rows import DataError, open_text
from cascade.tune import fields
from stages.taxonomy import HAZARD_INDEX

HEADER = "scored"
STAGES = ("stage1", "stage2")
CONVERSATION = "conversation"  # how the fields of its turns begin
# What a header has of how its rows were scored, and what to say where that is not how it is done here.
MADE = {
    "files": "other files of the models",
    "calibrations": "other calibrations",
    "segments": "another merge.segments",
    "reading": "another release, which may read texts in another way",
}


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


@dataclass(frozen=True)
class Loaded:
    """What is loaded, by all the ways in which a log may say what its scores are of.

    Attributes:
        models: NAME@REVISION of "stage1" and "stage2".
        made: what a header must have of the keys in :data:`MADE`; empty where it is compared elsewhere.
        scoring: the digest of each stage's scores in an answer, by :mod:`cascade.provenance`; empty as well.
        separable: whether an answer of both stages tells what stage 1 alone would have said of hazards and categories.
    """

    models: Mapping[str, str]
    made: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, str] = field(default_factory=dict)
    separable: bool = True


@dataclass
class Log:
    """The rows of a log; ``answers`` counts the answers that they were drawn from, ``seen`` has the rows' contents.

    ``untold`` counts the answers of releases that did not say yet whom the audit drew.
    """

    rows: list[ScoredRow] = field(default_factory=list)
    answers: int = 0
    untold: int = 0
    seen: set[Hashable] = field(default_factory=set)

    @property
    def drawn(self) -> str:
        """How the rows were chosen, for an error that they are too few; empty where all of them counted."""
        if not self.answers:
            return ""
        return (
            f"of {self.answers} answers in the log the random audit drew {len(self.rows)} different contents, and only "
            "those are a random sample (route.audited): collect more, or raise route.audit_rate"
            + (
                f"; {self.untold} answers are of an earlier release, which did not say whom it drew"
                if self.untold
                else ""
            )
        )


def read(path: Path, loaded: Loaded) -> Log:
    """Reads a log or a cache.

    Raises:
        DataError: a line is no row, a score is no probability, or what is loaded would score otherwise; the message
            names the line. Or there is neither a row nor an answer.
    """
    log = Log()
    header: dict[str, Any] = {}
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path.name}:{number}"
                raw = fields.parse(line, where)
                if HEADER in raw:
                    header = _header(raw, where, loaded)
                elif "result" in raw:
                    _add(log, raw, where, loaded)
                elif "method" not in raw:  # a record of a call without an answer
                    log.rows.append(_row(raw, where, loaded.models, header.get("models")))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path.name}: cannot be read as (gzipped) UTF-8 text") from error
    if not log.rows and not log.answers:
        raise DataError(f"{path.name}: has no rows")
    if header.get("rows", len(log.rows)) != len(log.rows):
        raise DataError(f"{path.name}: has {len(log.rows)} rows, not as many as its first line says")
    return log


def read_log(path: Path, models: Mapping[str, str]) -> list[ScoredRow]:
    """The rows of a log of which no more is known than NAME@REVISION of its models; as :func:`read`."""
    return read(path, Loaded(models)).rows


def read_header(path: Path) -> dict[str, Any] | None:
    """What a cache is of; None where there is no cache, or it has no header."""
    try:
        with path.open(encoding="utf-8") as lines:
            found = json.loads(lines.readline()).get(HEADER)
    except (OSError, ValueError, AttributeError, RecursionError):
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
        DataError: a stage did not answer, or a value is not what it should be.
    """
    reports = _reports(answer, where)
    for name in stages:
        if name not in reports:
            raise DataError(f"{where}: {name} did not answer; a log to tune from needs both stages on every row")
    second = reports["stage2"].get("calibratedProbability") if "stage2" in reports else 0.0
    return ScoredRow(
        **_labels(row, where),
        tokens=fields.count(fields.table(answer, "coverage", where), "tokensTotal", where),
        stage1=fields.probability(reports["stage1"].get("calibratedProbability"), "stage1", where),
        stage2=fields.probability(second, "stage2", where),
        stage1_labels=_named(answer, "categories", "name", where),
        hazards=_named(answer, "hazards", "slug", where),
        stage1_hazards={},
        triggers=fields.words(fields.table(answer, "route", where), "triggers", where),
    )


def _add(log: Log, raw: Mapping[str, Any], where: str, loaded: Loaded) -> None:
    """Takes a labelled answer, if it was drawn and is not known yet."""
    answer = raw["result"]
    if not isinstance(answer, dict):
        raise DataError(f"{where}: no answer")
    if not loaded.separable:
        raise DataError(f"{where}: these stages share labels, so that an answer of both does not tell what stage 1 "
                        "alone would say: tune from scores")  # fmt: skip
    if "released_upto" in raw:  # a state of a generation, whose texts are parts of each other
        return
    log.answers += 1
    route = fields.table(answer, "route", where)
    drawn = fields.truth(route, "audited", where)
    stages = fields.tables(answer, "stages", where)
    log.untold += bool(stages) and not any("scoring" in stage for stage in stages)
    if not drawn or fields.truth(answer, "degraded", where):
        return
    content = tuple(
        (fields.word(part, "field", where), fields.word(part, "hash", where))
        for part in fields.tables(raw, "content", where)
    )
    if any(field.startswith(CONVERSATION) for field, _ in content):
        return
    row = row_of_answer(raw, answer, where)
    reports = _reports(answer, where)
    said = {
        name: f"{fields.word(report, 'model', where)}@{fields.word(report, 'revision', where)}"
        for name, report in reports.items()
    }
    _check_models(said, loaded.models, where)
    for name, digest in loaded.scoring.items():
        if fields.word(reports[name], "scoring", where) != digest:
            raise DataError(f"{where}: {said[name]} scored it with other files, another calibration or merge.segments, "
                            "or by another release")  # fmt: skip
    if not content or content not in log.seen:
        log.seen.add(content)
        log.rows.append(row)


def _row(raw: dict[str, Any], where: str, loaded: Mapping[str, str], of_header: Any) -> ScoredRow:
    _check_models(raw.get("models", of_header), loaded, where)
    row = ScoredRow(
        **_labels(raw, where),
        tokens=fields.count(raw, "tokens", where),
        stage1=fields.probability(raw.get("stage1"), "stage1", where),
        stage2=fields.probability(raw.get("stage2"), "stage2", where),
        stage1_labels=fields.probabilities(raw.get("stage1_labels", {}), where),
        hazards=fields.probabilities(raw.get("hazards", {}), where),
        stage1_hazards=fields.probabilities(raw.get("stage1_hazards", {}), where),
        triggers=fields.words(raw, "triggers", where),
    )
    unknown = sorted((row.hazards.keys() | row.stage1_hazards.keys()) - HAZARD_INDEX.keys())
    if unknown:
        raise DataError(f"{where}: {unknown[0]!r} is no hazard")
    return row


def _header(raw: Mapping[str, Any], where: str, loaded: Loaded) -> dict[str, Any]:
    """What a first line says, which must be what would be said here."""
    header = fields.table(raw, HEADER, where)
    if loaded.made:
        _check_models(header.get("models"), loaded.models, where)
    for key, made in loaded.made.items():
        if key not in header:
            raise DataError(
                f"{where}: does not say how it was scored, as earlier releases did not: score the texts again"
            )
        if header[key] != made:
            raise DataError(f"{where}: these are scores of {MADE[key]}: score the texts again")
    return header


def _check_models(said: Any, loaded: Mapping[str, str], where: str) -> None:
    for name in STAGES:
        model = said.get(name) if isinstance(said, dict) else None
        if not isinstance(model, str):
            raise DataError(f"{where}: does not say which model {name} was")
        if model != loaded[name]:
            raise DataError(f"{where}: was scored by {model} as {name}, but {loaded[name]} is loaded")


def _reports(answer: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    return {fields.word(report, "name", where): report for report in fields.tables(answer, "stages", where)}


def _labels(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keys that say what a row is, whichever way its scores are written."""
    if "unsafe" not in raw or raw["unsafe"] not in (0, 1, None):
        raise DataError(f"{where}: 'unsafe' must be 1, 0 or null")
    return {
        "id": fields.word(raw, "id", where, where),
        "unsafe": None if raw["unsafe"] is None else bool(raw["unsafe"]),
        "labels": fields.words(raw, "labels", where),
        "lang": fields.word(raw, "lang", where),
    }


def _named(answer: Mapping[str, Any], key: str, name: str, where: str) -> dict[str, float]:
    """The probabilities in a list of objects, each by its name; where it has none nothing is known."""
    items = [item for item in fields.tables(answer, key, where) if "probability" in item]
    return fields.probabilities({fields.word(item, name, where): item["probability"] for item in items}, where)
