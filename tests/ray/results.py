"""Reads what a scan has written, without what differs from run to run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; what is JSON text in Parquet is its value here."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return [row | {key: json.loads(row[key] or "null") for key in ("result", "error")} for row in rows]
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


def by_part(folder: Path, pattern: str = "**/*-of-*") -> dict[str, list[dict[str, Any]]]:
    """The rows of the parts in a folder, by their names, in order."""
    found = sorted(path for path in folder.glob(pattern) if "_scan" not in path.parts)
    return {str(path.relative_to(folder)): read(path) for path in found}


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    """A row without how long its stages took."""
    if row["result"] is None:
        return row
    result = row["result"]
    stages = [{key: value for key, value in stage.items() if not key.endswith("Ms")} for stage in result["stages"]]
    return row | {"result": result | {"stages": stages}}
