"""Which rows of an evaluation set lie in, or near, a training set: sets, training files -> hits, and clean cohorts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cascade.evaluate.overlap import KINDS, Evaluation
from cascade.evaluate.rows import DataError, LabelledSet, open_text, parse_row
from stages.manifest import file_hash


@dataclass
class Contamination:
    """What was compared, and for each evaluation set its rows that are near a training row, by their ids."""

    files: dict[str, str] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    near: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)

    def report(self) -> dict[str, object]:
        """For ``report.json``: names, numbers and hashes, no text."""
        return {
            "training": [
                {"file": name, "sha256": digest, "rows": self.rows[name]} for name, digest in self.files.items()
            ],
            "sets": {
                name: {
                    "rows": len(found),
                    "kinds": {kind: sum(how == kind for how, _ in found.values()) for kind in KINDS},
                    "training": dict(Counter(file for _, file in found.values()).most_common()),
                }
                for name, found in self.near.items()
            },
        }


def training_files(given: Sequence[Path]) -> list[Path]:
    """The files themselves, and of folders every ``*.jsonl`` and ``*.jsonl.gz``.

    Raises:
        DataError: a folder has none.
    """
    found: list[Path] = []
    for path in given:
        inside = (
            sorted(p for p in path.iterdir() if p.name.endswith((".jsonl", ".jsonl.gz"))) if path.is_dir() else [path]
        )
        if not inside:
            raise DataError(f"{path}: no *.jsonl or *.jsonl.gz here")
        found += inside
    return found


def compare(
    sets: Sequence[LabelledSet], files: Iterable[Path], on_file: Callable[[Path], None] = lambda path: None
) -> Contamination:
    """Compares every evaluation row with every training row; only prompts count, as in ``cascade data contamination``.

    Raises:
        DataError: a training file cannot be read, or a line is no row.
    """
    index = Evaluation((labelled.name, row.id, row.text) for labelled in sets for row in labelled.rows)
    found = Contamination(near={labelled.name: {} for labelled in sets})
    for path in files:
        found.files[path.name] = file_hash(path)
        for text in _texts(path):
            found.rows[path.name] += 1
            for hit in index.find_all(text):
                found.near[hit.evaluation_set].setdefault(hit.evaluation_id, (hit.kind, path.name))
        on_file(path)
    return found


def clean(sets: Sequence[LabelledSet], found: Contamination) -> list[LabelledSet]:
    """The same sets; the rows found are left out of the cohort without near-train rows."""
    return [
        replace(labelled, near_train_ids=(labelled.near_train_ids or frozenset()) | found.near[labelled.name].keys())
        for labelled in sets
    ]


def _texts(path: Path) -> Iterator[str]:
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield parse_row(line, f"{path.name}:{number}").text
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: cannot be read as (gzipped) UTF-8 text") from error
