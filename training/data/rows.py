"""Training rows: those of :mod:`cascade.evaluate.rows`, with the set that they come from and its licence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.evaluate.rows import DataError, open_text, parse_row

__all__ = ["MANIFEST", "DataError", "Row", "entries", "find_set", "licence_classes", "read_set"]

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text. ``unsafe`` is None where the set has no honest binary label.

    ``judged``: label and hazards are those of :mod:`training.data.verdicts`, not the set's own.
    """

    id: str
    dataset: str
    text: str
    unsafe: int | None
    labels: tuple[str, ...]
    lang: str
    response: str | None = None
    judged: bool = False


def read_set(path: Path) -> Iterator[Row]:
    """Yields the rows of one ``NAME.jsonl`` or ``NAME.jsonl.gz``.

    Raises:
        DataError: the file cannot be read, or a line is no row; the message names file, line and key.
    """
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                row = parse_row(line, f"{path.name}:{number}")
                unsafe = None if row.unsafe is None else int(row.unsafe)
                yield Row(row.id, name, row.text, unsafe, row.labels, row.lang or "en", row.response)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: cannot be read as (gzipped) UTF-8 text") from error


def find_set(folder: Path, name: str) -> Path:
    """The file of a set in ``folder`` or its ``train/``.

    Raises:
        DataError: no such file.
    """
    for parent in (folder, folder / "train"):
        for suffix in (".jsonl.gz", ".jsonl"):
            if (parent / f"{name}{suffix}").is_file():
                return parent / f"{name}{suffix}"
    raise DataError(f"{folder}: no set {name}.jsonl.gz or {name}.jsonl, here or in train/")


def licence_classes(folder: Path) -> dict[str, tuple[str, str]]:
    """Set name -> (licence, licence class) from ``MANIFEST.json``; empty when there is none.

    Raises:
        DataError: it is not a list of entries.
    """
    for parent in (folder, folder / "train"):
        if found := entries(parent / MANIFEST):
            return {
                name: (entry.get("licence", "none stated"), entry.get("licence_class", "unknown"))
                for name, entry in found.items()
            }
    return {}


def entries(manifest: Path) -> dict[str, dict[str, Any]]:
    """The entries of a ``MANIFEST.json`` by set; none if there is no such file.

    Raises:
        DataError: it is not a list of entries.
    """
    if not manifest.is_file():
        return {}
    try:
        return {entry["set"]: entry for entry in json.loads(manifest.read_text(encoding="utf-8"))}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{manifest}: not a list of sets") from error
