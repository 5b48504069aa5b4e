"""*a published set* -> a file in the uniform form, its manifest entry, and what was dropped or not understood."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.manifest import file_hash
from training.data.groups import fingerprint
from training.data.labels import LabelMap, label_map
from training.data.rows import DataError, Row
from training.data.sources.files import find_files, read_records
from training.data.sources.source import Source
from training.data.writing import as_json, counts, register, set_name, writing


@dataclass
class Imported:
    """What an import did: its manifest entry, and how often a label came up that the set's map does not know."""

    entry: dict[str, Any]
    unmapped: Counter[str] = field(default_factory=Counter)


def import_set(source: Source, where: str, out: Path, *, split: str = "train", limit: int | None = None) -> Imported:
    """Imports a split of a published set.

    Args:
        source: which set it is.
        where: a file, a copy of the hub's folder, or a hub id.
        out: the ``.jsonl`` or ``.jsonl.gz`` to write; its name must begin with the source's, by which its labels are
            read later.
        split: the split to take, and what the rows say of themselves.
        limit: read only the first so many records.

    Raises:
        DataError: a file or key is missing, ``out`` has another name, or no row is left. Then nothing is written.
    """
    name = set_name(out)
    if name.partition(".")[0] != source.name:
        raise DataError(f"{out.name}: labels are read by the set's name: call it {source.name}[.…].jsonl.gz")
    paths = find_files(source, where, split)
    origin = source.hub if not Path(where).exists() else Path(where).name
    verdicts: dict[str, int | None] = {}
    dropped: Counter[str] = Counter()
    imported = Imported({})
    known = label_map(name)
    records = 0
    with writing(out) as file:
        for path in paths:
            for record in read_records(path):
                if limit is not None and records == limit:
                    break
                records += 1
                found = list(source.convert(record))
                dropped["withheld"] += not found
                for row in found:
                    reason = _unwanted(row, verdicts)
                    if reason:
                        dropped[reason] += 1
                        continue
                    imported.unmapped.update(label for label in row.labels if _unread(label, known))
                    file.write(as_json(row, split=split, source=f"{origin}:{path.name}") + "\n")
        if not verdicts:
            raise DataError(f"{where}: no row is left of {records} records")
    imported.entry = {
        "set": name,
        **counts(verdicts.values()),
        "source_rows": records,
        **{f"dropped_{reason}": count for reason, count in sorted(dropped.items()) if count},
        "licence": source.licence,
        "licence_class": source.licence_class,
        "source": origin,
        "files": {path.name: file_hash(path) for path in paths},
        "lang": ["en"],
    }
    register(out, imported.entry)
    return imported


def _unread(label: str, known: LabelMap) -> bool:
    """Whether a label should have a meaning and has none; ``key=value`` labels are for recipes to choose by."""
    return bool(known.labels) and label not in known.labels and "=" not in label


def _unwanted(row: Row, verdicts: dict[str, int | None]) -> str:
    """Why a row is dropped: it is empty, or the same text was there before; else "" and its verdict is kept."""
    if not row.text.strip():
        return "empty"
    print_ = f"{fingerprint(row.text)} {row.unsafe}" + ("" if row.response is None else fingerprint(row.response))
    if print_ in verdicts:
        return "duplicate"
    verdicts[print_] = row.unsafe
    return ""
