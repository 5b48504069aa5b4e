"""Reads labelled sets in the uniform form, one set a file: ``id, text, response?, unsafe, labels, lang, categories?``.

A set may have *cohorts*, parts that are reported beside the whole: ``human_annotation=True`` where labels say so, and
``without near-train rows`` where a file ``PREFIX_near_train_ids.json`` (a JSON list of ids) lies beside a set whose
name starts with PREFIX.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO

from stages.errors import CascadeError
from stages.manifest import file_hash
from stages.taxonomy import TINYSAFE_CATEGORIES

ALL_ROWS = "all rows"
HUMAN_ANNOTATION = "human_annotation=True"
WITHOUT_NEAR_TRAIN = "without near-train rows"
_NEAR_TRAIN = "_near_train_ids.json"


class DataError(CascadeError):
    """A set is missing, or a row does not have the uniform form."""

    reason = "BAD_DATA"


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text, or exchange if ``response`` is not None. ``unsafe`` is None where there is no honest label.

    ``categories`` has those of TinySafe's categories that are known of the text, held or not.
    """

    id: str
    text: str
    response: str | None
    unsafe: bool | None
    labels: tuple[str, ...]
    lang: str
    categories: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledSet:
    """A set: its rows, and the SHA-256 of the files that they came from, by file name."""

    name: str
    rows: tuple[Row, ...]
    files: dict[str, str]
    near_train_ids: frozenset[str] | None = None

    def cohorts(self) -> dict[str, list[int]]:
        """Name -> indices of its rows, ``all rows`` first. A cohort that is empty or the whole set is left out."""
        found = {ALL_ROWS: list(range(len(self.rows)))}
        human = [i for i, row in enumerate(self.rows) if HUMAN_ANNOTATION in row.labels]
        near = self.near_train_ids or frozenset()
        far = [i for i, row in enumerate(self.rows) if row.id not in near]
        for name, indices in ((HUMAN_ANNOTATION, human), (WITHOUT_NEAR_TRAIN, far)):
            if 0 < len(indices) < len(self.rows):
                found[name] = indices
        return found


def read_folder(folder: Path, *, limit: int | None = None) -> list[LabelledSet]:
    """Reads every ``*.jsonl`` and ``*.jsonl.gz`` of a folder, in order of name.

    Args:
        folder: where the sets lie.
        limit: read only the first so many rows of each.

    Raises:
        DataError: there is no set, or a line is no row; the message names file, line and key.
    """
    paths = sorted(path for path in folder.iterdir() if path.name.endswith((".jsonl", ".jsonl.gz")))
    if not paths:
        raise DataError(f"{folder}: no *.jsonl or *.jsonl.gz here")
    lists = sorted(folder.glob(f"*{_NEAR_TRAIN}"))
    return [_read_set(path, lists, limit) for path in paths]


def _read_set(path: Path, lists: list[Path], limit: int | None) -> LabelledSet:
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    files = {path.name: file_hash(path)}
    near: frozenset[str] | None = None
    for candidate in lists:
        if name.startswith(candidate.name.removesuffix(_NEAR_TRAIN)):
            near = (near or frozenset()) | _read_ids(candidate)
            files[candidate.name] = file_hash(candidate)
    try:
        with open_text(path) as lines:
            rows = tuple(islice(_rows(lines, path.name), limit))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: cannot be read as (gzipped) UTF-8 text") from error
    if not rows:
        raise DataError(f"{path.name}: has no rows")
    return LabelledSet(name, rows, files, near)


def _rows(lines: IO[str], where: str) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield parse_row(line, f"{where}:{number}")


def parse_row(line: str, where: str) -> Row:
    """The row of a JSON line; ``where`` names it in errors.

    Raises:
        DataError: it does not have the uniform form.
    """
    try:
        raw = json.loads(line)
        text, unsafe = raw["text"], raw["unsafe"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        # The message of a ValueError may quote the line.
        key = f": no {error}" if isinstance(error, KeyError) else ""
        raise DataError(f"{where}: not a row of the uniform form{key}") from None
    response, labels = raw.get("response"), raw.get("labels") or []
    if not isinstance(text, str) or not isinstance(response, str | None) or not isinstance(labels, list):
        raise DataError(f"{where}: 'text' and 'response' must be strings, 'labels' a list")
    if unsafe not in (0, 1, None):
        raise DataError(f"{where}: 'unsafe' must be 1, 0 or null")
    categories = raw.get("categories") or {}
    if not isinstance(categories, dict) or not all(
        name in TINYSAFE_CATEGORIES and held in (0, 1) for name, held in categories.items()
    ):
        raise DataError(f"{where}: 'categories' must give TinySafe's categories, each 1 or 0")
    return Row(
        id=str(raw.get("id", where)),
        text=text,
        response=response,
        unsafe=None if unsafe is None else bool(unsafe),
        labels=tuple(str(label) for label in labels),
        lang=str(raw.get("lang", "")),
        categories={name: bool(held) for name, held in categories.items()},
    )


def _read_ids(path: Path) -> frozenset[str]:
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: not JSON") from error
    if not isinstance(ids, list):
        raise DataError(f"{path.name}: must be a JSON list of ids")
    return frozenset(str(row_id) for row_id in ids)


def open_text(path: Path) -> IO[str]:
    """Opens a text file, gzipped or not, as UTF-8."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")
