"""The rows of a benchmark: *file of labelled rows* -> those of both labels, all or so many drawn at random.

And what a report says of them, and of what judged them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from cascade.evaluate.rows import DataError, Row, open_text, parse_row
from cascade.evaluate.run import cpu_model, versions
from cascade.pipeline import Pipeline
from stages.manifest import file_hash

OnRow = Callable[[], None]
Item = TypeVar("Item")


def read_sample(path: Path, limit: int | None = None, seed: int = 0) -> tuple[list[Row], list[Row]]:
    """The unsafe rows of a file and the harmless ones, at most ``limit`` of each; those without a label are left out.

    Raises:
        DataError: the file cannot be read, a line is no row, or a kind is missing.
    """
    rows = read_labelled(path)
    kinds = [row for row in rows if row.unsafe], [row for row in rows if not row.unsafe]
    return drawn(kinds[0], limit, seed), drawn(kinds[1], limit, seed)


def read_labelled(path: Path, wanted: Callable[[Row], bool] = lambda row: True, what: str = "row") -> list[Row]:
    """All rows of a file that have a text and a label and are wanted; ``what`` names such a row in errors.

    Raises:
        DataError: as :func:`read_sample`.
    """
    rows: list[Row] = []
    try:
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                row = parse_row(line, f"{path.name}:{number}") if line.strip() else None
                if row and row.unsafe is not None and row.text.strip() and wanted(row):
                    rows.append(row)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: cannot be read as (gzipped) UTF-8 text") from error
    for unsafe, name in ((True, "unsafe"), (False, "harmless")):
        if not any(row.unsafe is unsafe for row in rows):
            raise DataError(f"{path.name}: has no {name} {what}, and both kinds are needed")
    return rows


def drawn(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """At most so many items, drawn at random, in the order that they had."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[index] for index in sorted(Random(f"{seed} rows").sample(range(len(items)), limit))]


def about(path: Path, pipeline: Pipeline) -> dict[str, Any]:
    """How a report begins: the rows' file with its hash, the machine, the models and the default policy."""
    policy = pipeline.policies.get()
    infos = {name: batcher.stage.info for name, batcher in pipeline.stages.items()}
    return {
        "file": path.name,
        "sha256": file_hash(path),
        "cpu": cpu_model(),
        "versions": versions(),
        "models": {name: f"{info.name}@{info.revision}" for name, info in infos.items()},
        "policy": {"name": policy.name, "revision": policy.revision},
    }
