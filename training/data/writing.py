"""Writes a set in the uniform form and names it, with its licence, in the ``MANIFEST.json`` beside it."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from training.data.rows import MANIFEST, DataError, Row, entries


def set_name(path: Path) -> str:
    """The name of the set that a file holds.

    Raises:
        DataError: the file's name is not that of a set.
    """
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    if name == path.name or not name or path.name == f"{name}.gz":
        raise DataError(f"{path}: must end in .jsonl or .jsonl.gz")
    return name


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """A text file, gzipped if its name says so, which appears under its name only when it is complete.

    Raises:
        DataError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _packed(part) if path.suffix == ".gz" else part.open("w", encoding="utf-8") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _packed(path: Path) -> Iterator[IO[str]]:
    # No time and no name in the header: the same rows make the same file.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as file,
    ):
        yield file


def as_json(row: Row, *, split: str, source: str, extra: Mapping[str, Any] | None = None) -> str:
    """A row as a line of JSON, ``extra`` keys last."""
    values: dict[str, Any] = {"id": row.id, "text": row.text}
    if row.response is not None:
        values["response"] = row.response
    values |= {"unsafe": row.unsafe, "labels": list(row.labels), "lang": row.lang, "split": split, "source": source}
    return json.dumps(values | dict(extra or {}), ensure_ascii=False)


def counts(rows: Iterable[int | None]) -> dict[str, int]:
    """Of binary labels: rows in all, and how many are unsafe, safe and unlabelled, as manifests have it."""
    seen = Counter(rows)
    return {"rows": seen.total(), "unsafe": seen[1], "safe": seen[0], "unlabelled": seen[None]}


def register(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds or replaces a set's entry in the manifest of its folder.

    Raises:
        DataError: the manifest is there and is no list of entries, or cannot be written.
    """
    manifest = path.with_name(MANIFEST)
    known = entries(manifest)
    with writing(manifest) as file:
        json.dump([*(known | {entry["set"]: dict(entry)}).values()], file, indent=1, ensure_ascii=False)
        file.write("\n")
