"""An input in pieces that are scanned apart: *files* -> the same shards each time -> a local file of each one's rows.

A shard of JSON lines is a range of bytes, and has the lines that begin in it; one of Parquet is a range of row groups;
a gzipped file is one shard, since it can only be read from its start. Needs the extra ``ray``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from cascade.scan.places import Place
from cascade.scan.records import ScanError, ScanUsageError
from stages.errors import DependencyError

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as missing:
    raise DependencyError("the engine ray needs pyarrow: pip install 'safety-cascade[ray]'") from missing

SUFFIXES = (".jsonl.gz", ".jsonl", ".parquet")
_CHUNK = 2**20


@dataclass(frozen=True)
class Shard:
    """A piece of one input file, and the name of the output's part that it becomes.

    Attributes:
        path: of the input file, in its filesystem.
        part: path of the part within OUT.
        start: the first byte, or row group; 0 of a gzipped file.
        end: one past the last.
        first: number of its first row, from 1, in its file.
        rows: how many rows it has.
    """

    path: str
    part: str
    start: int
    end: int
    first: int = 1
    rows: int = 0


def suffix_of(name: str) -> str:
    """The ending by which a file's format is known; empty if it is none."""
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def cut(source: Place, part_bytes: int) -> list[Shard]:
    """The shards of a file, or of all files of a format in a folder, about ``part_bytes`` each, rows not counted yet.

    Raises:
        ScanUsageError: there is nothing that can be read.
        ScanError: a file cannot be read.
    """
    info = source.info()
    infos = [info] if info.is_file else [found for found in source.files() if suffix_of(found.path)]
    suffixes = {suffix_of(found.path) for found in infos}
    if not infos or "" in suffixes:
        raise ScanUsageError(f"{source.uri}: the engine ray reads {', '.join(sorted(SUFFIXES))} files; there is none")
    if len(suffixes) > 1:
        raise ScanUsageError(f"{source.uri}: files of several formats: {', '.join(sorted(suffixes))}")
    root = source.path.rstrip("/") if not info.is_file else source.path.rstrip("/").rpartition("/")[0]
    shards = []
    for found in infos:
        ranges = list(_ranges(Place(found.path, found.path, source.filesystem), found.size, part_bytes))
        suffix, inner = suffix_of(found.path), found.path[len(root) :].lstrip("/")
        for index, (start, end) in enumerate(ranges):
            part = f"{inner.removesuffix(suffix)}-{index:05d}-of-{len(ranges):05d}{suffix}"
            shards.append(Shard(found.path, part, start, end))
    return shards


def _ranges(file: Place, size: int, part_bytes: int) -> Iterator[tuple[int, int]]:
    if file.path.endswith(".gz"):
        yield 0, size
    elif file.path.endswith(".parquet"):
        yield from _row_groups(file, part_bytes)
    else:
        edges = [*range(0, size, part_bytes), size] if size else [0, 0]
        yield from pairwise(edges)


def _row_groups(file: Place, part_bytes: int) -> Iterator[tuple[int, int]]:
    with _parquet(file) as parquet:
        sizes = [parquet.metadata.row_group(index).total_byte_size for index in range(parquet.num_row_groups)]
    start = held = 0
    for index, size in enumerate(sizes, 1):
        held += size
        if held >= part_bytes:
            yield start, index
            start, held = index, 0
    if start < len(sizes) or not sizes:
        yield start, len(sizes)


def numbered(shards: Sequence[Shard], counts: Sequence[int]) -> list[Shard]:
    """The shards with the rows that they have, in the order of the counts, and the numbers of their first rows."""
    found: list[Shard] = []
    for path in dict.fromkeys(shard.path for shard in shards):
        own = [(shard, rows) for shard, rows in zip(shards, counts, strict=True) if shard.path == path]
        firsts = accumulate((rows for _, rows in own), initial=1)
        found += [
            Shard(shard.path, shard.part, shard.start, shard.end, first, rows)
            for (shard, rows), first in zip(own, firsts, strict=False)
        ]
    return found


def count(shard: Shard, filesystem: Any) -> int:
    """The rows of a shard; lines that are blank are none.

    Raises:
        ScanError: the file cannot be read.
    """
    file = Place(shard.path, shard.path, filesystem)
    if shard.part.endswith(".parquet"):
        with _parquet(file) as parquet:
            return sum(parquet.metadata.row_group(index).num_rows for index in range(shard.start, shard.end))
    if shard.part.endswith(".gz"):
        with file.reading() as raw, pa.CompressedInputStream(raw, "gzip") as lines:
            return sum(not line.isspace() for line in _lines(lines))
    with file.reading() as raw:
        return sum(not line.isspace() for line in _lines_from(raw, shard.start, shard.end))


def fetch(shard: Shard, filesystem: Any, to: Path) -> None:
    """Writes the rows of a shard into a local file of the same format.

    Raises:
        ScanError: the file cannot be read.
    """
    file = Place(shard.path, shard.path, filesystem)
    if shard.part.endswith(".parquet"):
        with _parquet(file) as parquet, pq.ParquetWriter(to, parquet.schema_arrow) as writer:
            for index in range(shard.start, shard.end):
                writer.write_table(parquet.read_row_group(index))
    elif shard.part.endswith(".gz"):
        file.fetch(to)
    else:
        with file.reading() as raw, to.open("wb") as target:
            target.writelines(_lines_from(raw, shard.start, shard.end))


def _lines_from(raw: Any, start: int, end: int) -> Iterator[bytes]:
    """The lines that begin at one of these bytes."""
    position = max(0, start - 1)
    raw.seek(position)
    lines = _lines(raw)
    if start:  # what the line before has of this range, if only its end
        position += len(next(lines, b""))
    for line in lines:
        if position >= end:
            break
        yield line
        position += len(line)


def _lines(raw: Any) -> Iterator[bytes]:
    """The lines of a stream from where it stands, each with its end."""
    rest = b""
    while chunk := raw.read(_CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


class _parquet:
    """A Parquet file, open."""

    def __init__(self, file: Place) -> None:
        self._file = file

    def __enter__(self) -> Any:
        try:
            self._open = pq.ParquetFile(self._file.path, filesystem=self._file.filesystem)
        except (OSError, pa.ArrowException) as error:
            raise ScanError(f"{self._file.uri}: {error}") from error
        return self._open

    def __exit__(self, *error: object) -> None:
        self._open.close()
