"""Verdicts of two judges on rows of the training sets, kept by fingerprint and never with the text.

A line of ``training/verdicts/NAME.jsonl`` is ``{"set", "id", "judge_a", "judge_b", "final"}``: the set that the row was
read from, the first 16 hex digits of :func:`training.data.groups.fingerprint`, what each judge said by
``docs/labelling-policy.md``, and what holds. Where both say safe or both say unsafe, that holds, with their hazards if
they name the same ones and with unknown ones if not. Where they differ, or one calls the text unclear, a third judge's
word holds; without one ``final`` is null, and no row with this text is trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cascade.evaluate.rows import open_text
from stages.manifest import first_problem
from stages.taxonomy import HAZARD_INDEX
from training.data.groups import PAIR, fingerprint
from training.data.imported_labels import BY_SLUG
from training.data.meaning import LabelMap
from training.data.rows import DataError, Row

VERDICTS = Path(__file__).parents[1] / "verdicts"
ID = r"^[0-9a-f]{16}$"
JUDGED = LabelMap(BY_SLUG)  # how the hazards of a judged row are read


Line = TypeVar("Line", bound=BaseModel)


def _slugs(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(names) - HAZARD_INDEX.keys())
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no hazard")
    return tuple(sorted(set(names), key=HAZARD_INDEX.__getitem__))


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)  # no key for a text


class Judgement(_Line):
    """What is said of one text; ``unsafe`` None: unclear, ``hazards`` None: unknown."""

    unsafe: bool | None
    hazards: Annotated[tuple[str, ...], AfterValidator(_slugs)] | None = ()

    @model_validator(mode="after")
    def _safe_has_none(self) -> Self:
        if self.hazards and not self.unsafe:
            raise ValueError("names hazards of a text that it does not call unsafe")
        return self


class Judged(Judgement):
    """A line of one judge's answers."""

    id: str = Field(pattern=ID)


class Verdict(_Line):
    """A line of the store."""

    set: str
    id: str = Field(pattern=ID)
    judge_a: Judgement
    judge_b: Judgement
    final: Judgement | None

    @model_validator(mode="after")
    def _follows(self) -> Self:
        agreed = agreement_of(self.judge_a, self.judge_b)
        if agreed is not None and self.final != agreed:
            raise ValueError("both judges agree, but on something else than what is final")
        if self.final is not None and self.final.unsafe is None:
            raise ValueError("what is final is safe, unsafe or null")
        return self


def agreement_of(a: Judgement, b: Judgement) -> Judgement | None:
    """What two judges agree on; None where they differ on safe or unsafe, or one of them calls it unclear."""
    if a.unsafe is None or a.unsafe != b.unsafe:
        return None
    return Judgement(unsafe=a.unsafe, hazards=a.hazards if a.hazards == b.hazards else None)


def verdict_id(text: str) -> str:
    """The id of a text in the store, the same for copies that differ in case, spacing or punctuation."""
    return fingerprint(text)[:16]


def read_verdicts(path: Path) -> list[Verdict]:
    """The lines of one file.

    Raises:
        DataError: the file cannot be read, or a line is no verdict; the message names file and line.
    """
    return list(_lines(path, Verdict))


def read_judged(path: Path) -> dict[str, Judgement]:
    """One judge's answers, lines ``{"id", "unsafe": true | false | null, "hazards": [slug]}``, by id.

    Raises:
        DataError: as :func:`read_verdicts`, or an id stands there twice.
    """
    found: dict[str, Judgement] = {}
    for line in _lines(path, Judged):
        if line.id in found:
            raise DataError(f"{path.name}: {line.id} is judged twice")
        found[line.id] = Judgement(unsafe=line.unsafe, hazards=line.hazards)
    return found


def _lines(path: Path, kind: type[Line]) -> Iterator[Line]:
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield kind.model_validate_json(line)
                    except ValidationError as error:
                        raise DataError(f"{path.name}:{number}: {first_problem(error)}") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as (gzipped) UTF-8 text") from error


def load_finals(folder: Path = VERDICTS) -> dict[str, Judgement | None]:
    """What holds of each text that was judged, by its id, over all files of the store.

    Raises:
        DataError: as :func:`read_verdicts`, or two lines say different things of one text.
    """
    finals: dict[str, Judgement | None] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for verdict in read_verdicts(path):
            if finals.setdefault(verdict.id, verdict.final) != verdict.final:
                raise DataError(f"{path.name}: {verdict.id} has two verdicts that differ")
    return finals


def judged(row: Row, finals: Mapping[str, Judgement | None]) -> Row | None:
    """The row as the judges left it; None where it is left out."""
    name = verdict_id(row.text) if finals else ""
    if name not in finals:
        return row
    final = finals[name]
    if final is None:
        return None
    pairs = tuple(label for label in row.labels if label.startswith(PAIR))
    return replace(row, unsafe=int(bool(final.unsafe)), labels=(final.hazards or ()) + pairs, judged=True)


def join(
    sets: Mapping[str, str],
    a: Mapping[str, Judgement],
    b: Mapping[str, Judgement],
    third: Mapping[str, Judgement],
) -> list[Verdict]:
    """Verdicts out of two judges' answers and a third's where they differ; ``sets`` has the set of each id.

    Raises:
        DataError: a judge left out a row, or judged one that was not asked for.
    """
    for name, answers in (("first", a), ("second", b)):
        wrong = sorted(answers.keys() ^ sets.keys())
        if wrong:
            raise DataError(f"the {name} judge has other ids than the rows: {len(wrong)} differ, such as {wrong[0]}")
    finals = {name: agreement_of(a[name], b[name]) or _decided(third.get(name)) for name in sets}
    return [
        Verdict(set=sets[name], id=name, judge_a=a[name], judge_b=b[name], final=finals[name]) for name in sorted(sets)
    ]


def _decided(judgement: Judgement | None) -> Judgement | None:
    return None if judgement is None or judgement.unsafe is None else judgement


def as_lines(verdicts: Iterable[Verdict]) -> str:
    """The lines of a file of the store."""
    return "".join(json.dumps(verdict.model_dump(mode="json"), ensure_ascii=False) + "\n" for verdict in verdicts)
