"""Finds the files of a published set, here or on the hub, and reads their records: JSON, JSON lines, CSV, Parquet."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from training.data.rows import DataError
from training.data.sources.source import Record, Source

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_TIMEOUT_S = 10.0  # for the hub's first answer
_PACKED = (".gz", ".xz")


def find_files(source: Source, where: str, split: str) -> list[Path]:
    """The files of a split: ``where`` is a file, a copy of the hub's folder, or a hub id.

    Raises:
        DataError: there is no such split or file, or the hub does not give it.
    """
    if Path(where).is_file():
        return [Path(where)]
    if split not in source.files:
        raise DataError(f"{source.name}: no split {split!r}; there are {', '.join(source.files)}")
    patterns = source.files[split]
    folder = Path(where) if Path(where).is_dir() else _download(where, patterns)
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not found:
        raise DataError(f"{where}: none of {', '.join(patterns)} here")
    return found


def _download(repository: str, patterns: tuple[str, ...]) -> Path:
    """The hub's folder: what the cache holds is taken where the hub cannot be reached."""
    if not _HUB_ID.fullmatch(repository):
        raise DataError(f"{repository}: no such file or folder, and not a hub id, which has the form owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(
            snapshot_download(repository, repo_type="dataset", allow_patterns=list(patterns), etag_timeout=_TIMEOUT_S)
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(
            f"{repository}: the hub does not give it ({type(error).__name__}); a set that asks for consent needs it "
            "once, on its page, and a token in HF_TOKEN"
        ) from error


def read_records(path: Path) -> Iterator[Record]:
    """The records of one file, by its ending.

    Raises:
        DataError: the file has another ending, cannot be read, or is not what its ending says.
    """
    kind = path.with_suffix("").suffix if path.suffix in _PACKED else path.suffix
    readers = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}
    if kind not in readers:
        raise DataError(f"{path.name}: must end in {', '.join(readers)}, packed as {' or '.join(_PACKED)} if need be")
    try:
        for number, values in readers[kind](path):
            if not isinstance(values, dict):
                raise DataError(f"{path.name}:{number}: not an object")
            yield Record(values, f"{path.name}:{number}")
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise DataError(f"{path.name}: cannot be read ({type(error).__name__})") from error


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError:
                    raise DataError(f"{path.name}:{number}: not JSON") from None


def _json(path: Path) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        try:
            records = json.load(file)
        except json.JSONDecodeError:
            raise DataError(f"{path.name}: not JSON") from None
    if not isinstance(records, list):
        raise DataError(f"{path.name}: must be a JSON list of records")
    yield from enumerate(records, 1)


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(1 << 24)  # a conversation in one cell is longer than the default of 128 KiB
    with _open(path) as lines:
        rows = csv.DictReader(lines)
        try:
            for number, row in enumerate(rows, 1):
                if None in row or None in row.values():
                    raise DataError(f"{path.name}:{number}: not as many cells as the header has")
                yield number, row
        except csv.Error:
            raise DataError(f"{path.name}: not CSV") from None


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise DataError(f"{path.name}: not Parquet") from error
