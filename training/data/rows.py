"""Reads data sets in the uniform form: gzipped JSON lines with ``id, text, unsafe, labels, lang``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.errors import CascadeError


class DataError(CascadeError):
    """A data set is missing, or a row does not have the uniform form."""

    reason = "BAD_DATA"


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text. ``unsafe`` is None where the set has no honest binary label."""

    id: str
    dataset: str
    text: str
    unsafe: int | None
    labels: tuple[str, ...]
    lang: str
    response: str | None = None


def read_set(path: Path) -> Iterator[Row]:
    """Yields the rows of one ``NAME.jsonl`` or ``NAME.jsonl.gz``.

    Raises:
        DataError: the file is not there, or a line is no row; the message names file, line and key.
    """
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    try:
        opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    with opened as lines:
        for number, line in enumerate(lines, 1):
            yield _row(line, name, f"{path.name}:{number}")


def _row(line: str, dataset: str, where: str) -> Row:
    try:
        raw = json.loads(line)
        text, unsafe = raw["text"], raw["unsafe"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: not a row of the uniform form ({type(error).__name__}: {error})") from error
    if not isinstance(text, str) or unsafe not in (0, 1, None):
        raise DataError(f"{where}: 'text' must be a string and 'unsafe' 0, 1 or null")
    labels = tuple(str(label) for label in raw.get("labels") or ())
    response = raw.get("response")
    return Row(str(raw.get("id", where)), dataset, text, unsafe, labels, str(raw.get("lang", "en")), response)


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
    """Set name -> (licence, licence class) from ``MANIFEST.json``; empty when there is none."""
    for parent in (folder, folder / "train"):
        manifest = parent / "MANIFEST.json"
        if manifest.is_file():
            entries = json.loads(manifest.read_text(encoding="utf-8"))
            return {e["set"]: (e.get("licence", "none stated"), e.get("licence_class", "unknown")) for e in entries}
    return {}
