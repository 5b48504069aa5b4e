"""What engine ray does without Ray: pieces of files, and the scan of one piece."""

from __future__ import annotations

import gzip
import json
import random
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.scan import shards as pieces
from cascade.scan.places import locate
from cascade.scan.records import Fields, ScanError, ScanUsageError
from cascade.scan.shards import Shard
from cascade.scan.worker import Judge, Task
from tests.fakes import fake_pipeline
from tests.ray.results import by_part, without_times

WORDS = ["calm", "walk", "bad", "park", "terrible", "unsure", "hate", "thing", "🙂", "café"]


def texts(count: int) -> list[str]:
    draw = random.Random(count)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(1, 12))) for _ in range(count)]


def counted(source: Path, part_bytes: int) -> list[Shard]:
    place = locate(str(source))
    found = pieces.cut(place, part_bytes)
    return pieces.numbered(found, [pieces.count(shard, place.filesystem) for shard in found])


@pytest.mark.parametrize("part_bytes", [1, 7, 100, 1000, 10**6])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_each_line_is_in_one_shard(tmp_path: Path, part_bytes: int, end: bytes) -> None:
    lines = [json.dumps({"text": text}).encode() for text in texts(30)]
    lines[3:3] = [b"", b"   ", b"x" * 2500]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines) + end)
    found, number = [], 1
    for shard in counted(tmp_path / "in.jsonl", part_bytes):
        pieces.fetch(shard, locate(str(tmp_path)).filesystem, tmp_path / "piece")
        inside = (tmp_path / "piece").read_bytes().splitlines()
        assert shard.first == number
        assert shard.rows == sum(not line.isspace() and line != b"" for line in inside)
        number += shard.rows
        found += inside
    assert found == lines
    assert number == 1 + sum(not line.isspace() and line != b"" for line in lines)


def test_lines_longer_than_what_is_read_at_once_stay_whole(tmp_path: Path) -> None:
    lines = [b'{"text": "' + bytes([97 + index]) * (700_000 * index) + b'"}' for index in range(5)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    found = b""
    for shard in counted(tmp_path / "in.jsonl", 300_000):
        pieces.fetch(shard, locate(str(tmp_path)).filesystem, tmp_path / "piece")
        found += (tmp_path / "piece").read_bytes()
    assert found.splitlines() == lines


def test_parquet_is_cut_at_row_groups_and_keeps_its_schema(tmp_path: Path) -> None:
    table = pa.table({"id": range(100), "text": texts(100)}).replace_schema_metadata({"made": "here"})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=9)
    shards = counted(tmp_path / "in.parquet", 1)
    assert [shard.rows for shard in shards] == [9] * 11 + [1]
    assert [shard.first for shard in shards] == [*range(1, 101, 9)]
    back = []
    for shard in shards:
        pieces.fetch(shard, locate(str(tmp_path)).filesystem, tmp_path / "piece.parquet")
        back.append(pq.read_table(tmp_path / "piece.parquet"))
        assert back[-1].schema.metadata[b"made"] == b"here"
    assert pa.concat_tables(back).equals(table)
    assert len(counted(tmp_path / "in.parquet", 10**9)) == 1


def test_empty_and_gzipped_files_are_one_shard(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"")
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n \n' * 50))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in.parquet")
    assert [counted(tmp_path / f"in{end}", 3)[0].rows for end in (".jsonl", ".jsonl.gz", ".parquet")] == [0, 50, 0]
    assert [len(counted(tmp_path / f"in{end}", 3)) for end in (".jsonl", ".jsonl.gz", ".parquet")] == [1, 1, 1]


def test_a_folder_is_its_files_but_for_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/c.jsonl", "_SUCCESS", ".hidden.jsonl", "_scan/d.jsonl", "a/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "x"}\n{"text": "y"}\n')
    shards = counted(tmp_path, 10)
    assert [shard.part for shard in shards] == [
        *(f"a/c-{index:05}-of-00003.jsonl" for index in range(3)),
        *(f"b-{index:05}-of-00003.jsonl" for index in range(3)),
    ]
    assert [shard.first for shard in shards] == [1, 2, 3] * 2  # each file counts its own rows
    (tmp_path / "e.parquet").write_bytes(b"")
    with pytest.raises(ScanUsageError, match="several formats"):
        pieces.cut(locate(str(tmp_path)), 10)
    with pytest.raises(ScanUsageError, match="there is none"):
        pieces.cut(locate(str(tmp_path / "a/note.txt")), 10)


def judge(source: Path, out: Path, shards: list[Shard], **fields: str) -> list[dict]:
    place = locate(str(source))
    worker = Judge(Task(place.filesystem, locate(str(out)), Fields(**fields), 8), fake_pipeline)
    with closing(worker):
        return [worker({"shard": vars(shard)}) for shard in shards]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_parts_together_are_the_local_engines_file(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": text} if index % 3 else {"id": f"r{index}", "text": text} for index, text in enumerate(texts(60))]
    rows[7]["text"] = ""
    source, local = tmp_path / f"in{suffix}", tmp_path / f"local{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{"id": None} | row for row in rows]), source, row_group_size=7)
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        source.write_bytes(gzip.compress(data) if suffix == ".jsonl.gz" else data)
    shards = counted(source, 400)
    assert len(shards) > 3 or suffix == ".jsonl.gz"
    told = judge(source, tmp_path / "out", shards)
    assert [(row["rows"], row["error"]) for row in told] == [(shard.rows, "") for shard in shards]
    assert sum(row["bad"] for row in told) == 1
    whole = judge(source, tmp_path / "whole", counted(source, 10**9))
    assert whole[0]["rows"] == 60
    next((tmp_path / "whole").glob("in-*")).rename(local)
    parts = by_part(tmp_path / "out")
    assert [without_times(row) for part in parts.values() for row in part] == [
        without_times(row) for row in by_part(tmp_path, f"local{suffix}")[f"local{suffix}"]
    ]
    assert not list((tmp_path / "out/_scan/unfinished").iterdir())


def test_a_part_that_is_made_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(9)))
    shards = counted(tmp_path / "in.jsonl", 100)
    first = judge(tmp_path / "in.jsonl", tmp_path / "out", shards)
    again = judge(tmp_path / "in.jsonl", tmp_path / "out", shards[:2])
    assert again == first[:2]
    assert sum(map(len, by_part(tmp_path / "out").values())) == 9


def test_what_a_worker_cannot_do_is_told(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "calm"}\n{"text": "bad"}\n')
    shards = counted(source, 10**6)
    (told,) = judge(source, tmp_path / "out", shards, text="prompt")
    assert told["usage"]
    assert "prompt" in told["error"]
    source.write_text('{"text": "calm"}\n')
    (told,) = judge(source, tmp_path / "out", shards)
    assert not told["usage"]
    assert "changed" in told["error"]
    assert by_part(tmp_path / "out") == {}
    source.unlink()
    (told,) = judge(source, tmp_path / "out", shards)
    assert str(source) in told["error"]
    with pytest.raises(ScanError, match="nobody"):
        pieces.count(Shard(str(tmp_path / "nobody.jsonl"), "x.jsonl", 0, 1), locate(str(tmp_path)).filesystem)


def test_places_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ScanUsageError, match="nothere"):
        locate("nothere://bucket/in.jsonl")
