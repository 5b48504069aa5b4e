"""Reads the rows that a model is asked about and writes the sets that it made, with their terms in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from training.data import relabel, synthesise
from training.data.constitution import Constitution
from training.data.relabel import Relabelled
from training.data.rows import DataError, Row, licence_classes, read_set
from training.data.synthesise import Synthesised
from training.data.writing import as_json, counts, register, set_name, writing

# From the one that allows most to the one that is least known; a set made of several is as free as the last of them.
_CLASSES = ("permissive", "copyleft", "non-commercial", "unknown")


def read_rows(paths: Sequence[Path], limit: int | None) -> list[Row]:
    """The rows of several sets, the first ``limit`` of them.

    Raises:
        DataError: a set cannot be read.
    """
    return list(islice(chain.from_iterable(read_set(path) for path in paths), limit))


def write_relabelled(out: Path, result: Relabelled, sources: Sequence[Path]) -> None:
    """Writes relabelled rows under the terms of the sets that they come from.

    Raises:
        DataError: no row is left, or ``out`` has another name.
    """
    terms = [licence_classes(path.parent).get(set_name(path), ("none stated", "unknown")) for path in sources]
    entry = {
        "licence": "; ".join(sorted({licence for licence, _ in terms})),
        "licence_class": max((kind for _, kind in terms), key=_rank),
        "source": ", ".join(set_name(path) for path in sources),
        "relabelling": result.report,
    }
    _write(out, relabel.NAME, result.rows, "relabelled", entry)


def write_synthetic(out: Path, result: Synthesised, rules: Constitution, model: str, lang: str) -> None:
    """Writes synthetic rows; which terms hold for a model's output its provider says.

    Raises:
        DataError: no row is left, or ``out`` has another name.
    """
    source = f"{model}, constitution {rules.name} {rules.version}"
    entry = {
        "licence": "none stated (output of a model)",
        "licence_class": "unknown",
        "source": source,
        "lang": [lang],
        "synthesis": result.report,
    }
    _write(out, synthesise.NAME, [(row, {}) for row in result.rows], source, entry)


def check_name(out: Path, kind: str) -> None:
    """Refuses a set whose labels would not be read as what they are.

    Raises:
        DataError: the name of the set does not begin with ``kind``.
    """
    if set_name(out).partition(".")[0] != kind:
        raise DataError(f"{out.name}: labels are read by the set's name: call it {kind}[.…].jsonl.gz")


def _write(
    out: Path, kind: str, rows: Sequence[tuple[Row, Mapping[str, Any]]], source: str, entry: Mapping[str, Any]
) -> None:
    check_name(out, kind)
    if not rows:
        raise DataError(f"{out.name}: no row is left, nothing is written; the answers are kept in {out.name}.job")
    with writing(out) as file:
        for row, extra in rows:
            file.write(as_json(row, split="train", source=source, extra=extra) + "\n")
    tally = counts(row.unsafe for row, _ in rows)
    langs = sorted({row.lang for row, _ in rows})
    register(out, {"set": set_name(out), **tally, "lang": langs, **entry})


def _rank(kind: str) -> int:
    return _CLASSES.index(kind) if kind in _CLASSES else len(_CLASSES)
