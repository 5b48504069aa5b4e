"""Finds training rows that lie in, or near, a row of an evaluation set.

A training row hits an evaluation row if their fingerprints are equal, if it shares half of its word 8-grams with it,
or, where both are short, if their word 3-grams have a Jaccard similarity of at least 0.7, which is what the MinHash of
:mod:`training.data.groups` estimates: short texts have few n-grams, so that the figure itself costs less than a sketch.
Only prompts are compared: an answer to an evaluation prompt does not make a row clean.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascade.evaluate.rows import open_text, read_folder
from training.data.groups import SIMILARITY, fingerprint, grams, units
from training.data.rows import DataError, Row, read_set
from training.data.writing import MANIFEST, counts, entries, register, set_name, writing

LONG_GRAM, SHARED = 8, 0.5
SHORT = 3 * LONG_GRAM  # words up to which a text is short: few 8-grams, one changed word breaks most of them
KINDS = ("equal", "8-grams", "similar")


@dataclass(frozen=True, slots=True)
class Hit:
    """A training row's nearest evaluation row, and by which of the three tests."""

    evaluation_set: str
    evaluation_id: str
    kind: str


@dataclass
class Report:
    """What was found: rows by training set, and hits by training set, evaluation set and kind."""

    rows: Counter[str] = field(default_factory=Counter)
    hits: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def of(self, training_set: str) -> int:
        """The hits of a training set."""
        return sum(count for (name, _, _), count in self.hits.items() if name == training_set)


class Evaluation:
    """An index over the texts of evaluation sets."""

    def __init__(self, texts: Iterable[tuple[str, str, str]]) -> None:
        """Takes triples of set, row id and text."""
        self._rows: list[tuple[str, str]] = []
        self._prints: dict[str, int] = {}
        self._long: dict[bytes, list[int]] = defaultdict(list)
        self._short: dict[int, set[bytes]] = {}
        self._having: dict[bytes, list[int]] = defaultdict(list)  # 3-gram -> short rows
        for name, row_id, text in texts:
            length = len(units(text))
            if not length:
                continue  # without a word there is nothing to compare
            number = len(self._rows)
            self._rows.append((name, row_id))
            self._prints.setdefault(fingerprint(text), number)
            if length >= LONG_GRAM:
                for gram in grams(text, LONG_GRAM):
                    self._long[gram].append(number)
            if length <= SHORT:
                self._short[number] = grams(text)
                for gram in self._short[number]:
                    self._having[gram].append(number)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, text: str) -> Hit | None:
        """The evaluation row that a training text hits, None if there is none."""
        length = len(units(text))
        if not length:
            return None
        equal = self._prints.get(fingerprint(text))
        if equal is not None:
            return Hit(*self._rows[equal], KINDS[0])
        if length >= LONG_GRAM:
            own = grams(text, LONG_GRAM)
            shared = Counter(number for gram in own for number in self._long.get(gram, ()))
            for number, count in shared.most_common(1):
                if count >= SHARED * len(own):
                    return Hit(*self._rows[number], KINDS[1])
        return self._similar(text) if length <= SHORT else None

    def _similar(self, text: str) -> Hit | None:
        own = grams(text)
        best, nearest = SIMILARITY, None
        # A row that is similar enough lacks at most 30 % of the n-grams, so it has one of the 30 % + 1 rarest.
        rarest = sorted(own, key=lambda gram: len(self._having.get(gram, ())))
        rarest = rarest[: len(own) - math.ceil(SIMILARITY * len(own) - 1e-9) + 1]
        for number in sorted({number for gram in rarest for number in self._having.get(gram, ())}):
            other = self._short[number]
            likeness = len(own & other) / len(own | other)
            if likeness > best or (likeness == best and nearest is None):
                best, nearest = likeness, number
        return None if nearest is None else Hit(*self._rows[nearest], KINDS[2])


def check(evaluation: Evaluation, training_set: str, texts: Sequence[str], report: Report) -> list[Hit | None]:
    """Compares the texts of a training set, adds to the report, and tells each text's hit."""
    report.rows[training_set] += len(texts)
    hits = [evaluation.find(text) for text in texts]
    report.hits.update((training_set, hit.evaluation_set, hit.kind) for hit in hits if hit is not None)
    return hits


def read_evaluation(folders: Sequence[Path]) -> Evaluation:
    """Indexes every set of the folders.

    Raises:
        DataError: a folder has no set, or a line is no row.
    """
    return Evaluation(
        (labelled.name, row.id, row.text)
        for folder in folders
        for labelled in read_folder(folder)
        for row in labelled.rows
    )


def check_sets(evaluation: Evaluation, paths: Sequence[Path], out: Path | None = None) -> Report:
    """Compares sets with the evaluation sets; with ``out``, writes each without its hits, into that folder.

    Raises:
        DataError: a set cannot be read or written, or ``out`` is where one of them lies.
    """
    report = Report()
    for path in paths:
        if out is not None and out.resolve() == path.parent.resolve():
            raise DataError(f"{out}: is where {path.name} lies; it is not overwritten")
        rows = list(read_set(path))
        hits = check(evaluation, set_name(path), [row.text for row in rows], report)
        if out is not None:
            _write_clean(path, out / path.name, rows, hits)
    return report


def _write_clean(path: Path, out: Path, rows: Sequence[Row], hits: Sequence[Hit | None]) -> None:
    with open_text(path) as lines, writing(out) as file:
        # The lines themselves, so that keys which a row does not have here are kept.
        file.writelines(line for line, hit in zip(lines, hits, strict=True) if hit is None)
    clean = [row.unsafe for row, hit in zip(rows, hits, strict=True) if hit is None]
    known = entries(path.with_name(MANIFEST)).get(set_name(path), {"set": set_name(path)})
    register(out, {**known, **counts(clean), "dropped_near_evaluation": len(rows) - len(clean)})
