"""Finds training rows that lie in, or near, a row of an evaluation set, by :mod:`cascade.evaluate.overlap`.

Only prompts are compared: an answer to an evaluation prompt does not make a row clean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascade.evaluate.overlap import KINDS, Evaluation, Hit
from cascade.evaluate.rows import open_text, read_folder
from training.data.rows import MANIFEST, DataError, Row, entries, read_set
from training.data.writing import counts, register, set_name, writing

__all__ = ["KINDS", "Evaluation", "Hit", "Report", "check", "check_sets", "read_evaluation"]


@dataclass
class Report:
    """What was found: rows by training set, and hits by training set, evaluation set and kind."""

    rows: Counter[str] = field(default_factory=Counter)
    hits: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def of(self, training_set: str) -> int:
        """The hits of a training set."""
        return sum(count for (name, _, _), count in self.hits.items() if name == training_set)


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
