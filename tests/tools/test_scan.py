import asyncio
import csv
import gzip
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.content import check_request
from cascade.jsonform import to_dict
from cascade.scan.part import Part
from cascade.scan.records import Outcome, ScanError
from cascade.serve.errors import code_of
from tests.fakes import fake_pipeline
from tests.tools.conftest import FAKE_CLI, Done, environment, in_process

Run = Callable[..., Done]

pytestmark = pytest.mark.usefixtures("fakes")

TEXTS = [
    "a walk in the park",
    "a bad thing",
    "an unsure thing",
    "a terrible hate thing",
    "naïve café 🙂",
    "nul \0 here",
]


def write(path: Path, lines: list[object]) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path) -> list[dict]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.splitlines()]


def answers(*requests: tuple[str, str | None, str]) -> list[dict]:
    """What ``check`` says of (text, response, id), without times."""

    async def run() -> list[dict]:
        pipeline = fake_pipeline()
        asked = [check_request(text, response, request_id=name) for text, response, name in requests]
        found = [to_dict(await pipeline.check(request)) for request in asked]
        await pipeline.close()
        return found

    return [without_times(answer) for answer in asyncio.run(run())]


def without_times(result: dict) -> dict:
    stages = [{key: value for key, value in stage.items() if not key.endswith("Ms")} for stage in result["stages"]]
    return result | {"stages": stages}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_rows_come_back_in_order_with_what_check_answers(tmp_path: Path, cascade: Run, suffix: str) -> None:
    rows: list[dict] = [{"id": f"r{n}", "text": text, "kept": [n, {"x": None}]} for n, text in enumerate(TEXTS)]
    rows.append({"id": 7, "text": "what is it", "response": "a bad thing"})
    write(tmp_path / f"in{suffix}", rows)
    done = cascade("scan", f"in{suffix}", "--out", f"out{suffix}", "--in-flight", 3)
    assert done.code == 0, done.err
    found = read(tmp_path / f"out{suffix}")
    assert [{key: value for key, value in row.items() if key != "result"} for row in found] == rows
    expected = answers(*((row["text"], row.get("response"), str(row["id"])) for row in rows))
    assert [without_times(row["result"]) for row in found] == expected
    verdicts = [row["result"]["verdict"].removeprefix("VERDICT_") for row in found]
    assert verdicts == ["SAFE", "UNSAFE", "SAFE", "UNSAFE", "SAFE", "SAFE", "UNSAFE"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in{suffix}", f"out{suffix}"]


BAD_LINES: list[tuple[object, str, str]] = [
    ("{not json", "INVALID_ARGUMENT", "not a JSON object"),
    ("[1, 2]", "INVALID_ARGUMENT", "not a JSON object"),
    ("[" * 100_000, "INVALID_ARGUMENT", "not a JSON object"),
    ({"id": "no text"}, "INVALID_ARGUMENT", "no text"),
    ({"id": "null", "text": None}, "INVALID_ARGUMENT", "no text"),
    ({"id": "number", "text": 5}, "INVALID_ARGUMENT", "not a string"),
    ({"id": "empty", "text": ""}, "INVALID_ARGUMENT", "empty"),
    ({"id": "both empty", "text": "", "response": ""}, "INVALID_ARGUMENT", "empty"),
    ({"id": "list", "text": "fine", "response": ["no"]}, "INVALID_ARGUMENT", "not a string"),
    ('{"id": "surrogate", "text": "half \\ud800 a pair"}', "INVALID_ARGUMENT", "surrogate"),
    ({"id": "long", "text": "word " * 250_000}, "RESOURCE_EXHAUSTED", "limit of 1000000"),
]


def test_a_bad_row_gets_its_error_and_the_scan_goes_on(tmp_path: Path, cascade: Run) -> None:
    lines: list[object] = [{"id": "first", "text": "a walk"}]
    lines += [line for line, _, _ in BAD_LINES]
    lines += ["", "   ", {"id": "last", "text": "a bad thing"}]
    write(tmp_path / "in.jsonl", lines)
    done = cascade("scan", "in.jsonl", "--out", "out.jsonl")
    assert done.code == 0
    assert f"{len(BAD_LINES) + 2} rows, {len(BAD_LINES)} of them bad" in done.err
    first, *bad, last = read(tmp_path / "out.jsonl")
    assert (first["result"]["verdict"], last["result"]["verdict"]) == ("VERDICT_SAFE", "VERDICT_UNSAFE")
    assert "error" not in first
    for number, (row, (line, code, message)) in enumerate(zip(bad, BAD_LINES, strict=True), 2):
        assert row["result"] is None
        assert row["error"]["code"] == code
        assert message in row["error"]["message"]
        assert row["id"] == (
            line["id"] if isinstance(line, dict) else "surrogate" if "surrogate" in str(line) else number
        )
    assert cascade("scan", "in.jsonl", "--out", "again.jsonl", "--strict").code == 3
    assert (tmp_path / "again.jsonl").exists()


def test_bad_rows_bear_the_codes_of_grpc() -> None:
    from cascade.errors import InvalidRequestError, LimitExceededError
    from cascade.scan.run import ROW_ERRORS

    errors = [InvalidRequestError("m", "f"), LimitExceededError("bytes", 1)]
    assert {type(error): code_of(error).name for error in errors} == ROW_ERRORS


def test_fields_of_other_names_rows_without_id_and_old_results(tmp_path: Path, cascade: Run) -> None:
    rows = [
        {"prompt": "a walk", "answer": "a bad thing", "result": "old", "error": "old"},
        {"key": "x" * 300, "prompt": "a walk", "answer": None},
    ]
    write(tmp_path / "in.jsonl", rows)
    options = ("--text-field", "prompt", "--response-field", "answer", "--id-field", "key")
    assert cascade("scan", "in.jsonl", "--out", "out.jsonl", *options).code == 0
    first, second = read(tmp_path / "out.jsonl")
    assert (first["key"], second["key"]) == (1, "x" * 300)
    assert "error" not in first
    results = [without_times(row["result"]) for row in (first, second)]
    assert results == answers(("a walk", "a bad thing", "1"), ("a walk", None, "2"))


def test_an_empty_file_gives_an_empty_one(tmp_path: Path, cascade: Run) -> None:
    write(tmp_path / "in.jsonl", [])
    assert cascade("scan", "in.jsonl", "--out", "out.jsonl").code == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_csv_keeps_cells_as_they_were(tmp_path: Path, cascade: Run) -> None:
    cells = [
        ["1", 'a "fine" thing, quoted', "über\r\ntwo lines"],
        ["", "a bad thing", ""],
        ["3", "", "no text"],
        ["4"],
        ["5", "a walk", "x", "one too many"],
    ]
    with (tmp_path / "in.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["id", "text", "note"], *cells])
    with (tmp_path / "in.csv").open("ab") as file:
        file.write(b"6,not utf-8: \xff,\xfe\r\n\r\n")
    assert cascade("scan", "in.csv", "--out", "out.csv").code == 0
    assert b"6,not utf-8: \xff,\xfe," in (tmp_path / "out.csv").read_bytes()
    with (tmp_path / "out.csv").open(encoding="utf-8", errors="replace", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "text", "note", "result", "error"]
    assert rows[0][:3] == cells[0]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    results = [json.loads(row[3]) for row in rows]
    assert [result and result["verdict"] for result in results] == [
        "VERDICT_SAFE",
        "VERDICT_UNSAFE",
        None,
        None,
        None,
        None,
    ]
    assert [row[4] == "" for row in rows] == [True, True, False, False, False, False]
    assert [json.loads(row[4])["code"] for row in rows[2:]] == ["INVALID_ARGUMENT"] * 4


def test_csv_without_ids_gets_a_column_of_them_and_old_results_go(tmp_path: Path, cascade: Run) -> None:
    (tmp_path / "in.csv").write_text("result,text\nold,a walk\nold,a bad thing\n")
    assert cascade("scan", "in.csv", "--out", "out.csv").code == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["text", "id", "result", "error"]] * 2
    assert [(row["id"], json.loads(row["result"])["requestId"]) for row in rows] == [("1", "1"), ("2", "2")]


def test_parquet_keeps_columns_and_types_over_many_batches(tmp_path: Path, cascade: Run) -> None:
    count = 2500
    table = pa.table(
        {
            "id": pa.array([None if n == 1300 else n * 10 for n in range(count)], pa.int32()),
            "text": pa.array(
                [None if n == 5 else "bad" if n % 700 == 3 else "calm" for n in range(count)]
            ).dictionary_encode(),
            "vector": pa.array([[n, n + 1] for n in range(count)], pa.list_(pa.int16())),
            "response": pa.array(["terrible" if n == 9 else None for n in range(count)], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=999)
    assert cascade("scan", "in.parquet", "--out", "out.parquet").code == 0
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.names == ["id", "text", "vector", "response", "result", "error"]
    assert found.column("id").to_pylist() == [1301 if n == 1300 else n * 10 for n in range(count)]
    assert found.schema.field("id").type == pa.int32()
    assert found.column("vector").equals(table.column("vector"))
    assert found.column("text").to_pylist() == table.column("text").to_pylist()
    results, errors = found.column("result").to_pylist(), found.column("error").to_pylist()
    unsafe = [n for n, result in enumerate(results) if result and json.loads(result)["verdict"] == "VERDICT_UNSAFE"]
    assert unsafe == [3, 9, 703, 1403, 2103]
    assert [n for n, result in enumerate(results) if result is None] == [5]
    assert [n for n, error in enumerate(errors) if error is not None] == [5]
    assert json.loads(errors[5])["code"] == "INVALID_ARGUMENT"


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    (tmp_path / "pyarrow.py").write_text("raise ImportError('not here')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from cascade.cli import main; main()"
    done = in_process([FAKE_CLI[0], "-c", code], "scan", "in.parquet", "--out", "out.parquet", folder=tmp_path)
    assert done.code == 1
    assert "safety-cascade[parquet]" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("name", "content", "arguments", "says"),
    [
        ("in.txt", b"", ["--out", "out.txt"], "format"),
        ("in.jsonl", b"", ["--out", "out.csv"], "same format"),
        ("in.jsonl", b"", ["--out", "nowhere/out.jsonl"], "no such folder"),
        ("in.jsonl", b"", ["--out", "in.jsonl"], "input itself"),
        ("in.jsonl", b"", [], "--out"),
        ("in.jsonl", b'{"text": "a"}\n', ["--out", "out.jsonl", "--in-flight", "0"], "in-flight"),
        ("in.jsonl", b'{"words": "a"}\n', ["--out", "out.jsonl"], "text"),
        ("in.jsonl", b'{"text": "a"}\n', ["--out", "out.jsonl", "--response-field", "answer"], "answer"),
        ("in.csv", b"id,words\n1,a\n", ["--out", "out.csv"], "words"),
        ("in.csv", b"", ["--out", "out.csv"], "no column"),
        ("in.csv", b"id,text\n1,a\n", ["--out", "out.csv", "--id-field", "key"], "key"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(
    tmp_path: Path, cascade: Run, name: str, content: bytes, arguments: list[str], says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = cascade("scan", name, *arguments)
    assert done.code == 2
    assert says in " ".join(done.err.replace("│", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_wrong_columns_of_parquet_end_with_2(tmp_path: Path, cascade: Run) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "in.parquet")
    done = cascade("scan", "in.parquet", "--out", "out.parquet")
    assert (done.code, "int64" in done.err) == (2, True)
    assert cascade("scan", "in.parquet", "--out", "out.parquet", "--text-field", "words").code == 2
    assert cascade("scan", "missing.jsonl", "--out", "out.jsonl").code == 2


def parquet_with_a_column_of_no_utf8() -> bytes:
    """A Parquet file whose column ``response`` is named by bytes that are no text."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a walk"], "response": ["x"]}), sink)
    return bytes(sink.getvalue().to_pybytes().replace(b"response", b"\x80esponse"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl.gz", gzip.compress(b'{"text": "a walk"}\n' * 5000, mtime=0)[:-30]),
        ("in.parquet", b"PAR1 but not really PAR1"),
        ("in.parquet", parquet_with_a_column_of_no_utf8()),
    ],
    ids=["gzip-cut-off", "parquet-of-nothing", "parquet-column-of-no-utf8"],
)
def test_a_broken_file_is_told_and_ends_with_1(tmp_path: Path, cascade: Run, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    done = cascade("scan", name, "--out", f"out{name[2:]}")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"cascade: {name}: ")
    assert not (tmp_path / f"out{name[2:]}").exists()


def test_goes_on_after_a_kill_where_it_was(tmp_path: Path, cascade: Run) -> None:
    rows = [{"id": n, "text": f"{TEXTS[n % 4]} number {n}"} for n in range(120)]
    write(tmp_path / "in.jsonl", rows)
    command = [*FAKE_CLI, "scan", "in.jsonl", "--out", "out.jsonl", "--in-flight", "4"]
    part = tmp_path / "out.jsonl.part"
    slow = subprocess.Popen(
        command, cwd=tmp_path, env=environment() | {"FAKE_DELAY_S": "0.05"}, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while not (part.exists() and part.read_bytes().count(b"\n") > 10):
        assert slow.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(slow.pid, signal.SIGKILL)
    slow.wait()
    assert not (tmp_path / "out.jsonl").exists()
    kept = part.read_bytes().count(b"\n") - 1
    with part.open("ab") as file:
        file.write(b'{"result": {"verdict": "VERD')  # what a killed write leaves

    done = in_process(FAKE_CLI, *command[2:], folder=tmp_path)
    assert done.code == 0, done.err
    taken_over = int(done.err.split(" taken over")[0].split()[-1])
    assert kept <= taken_over < len(rows)
    assert not part.exists()
    assert cascade("scan", "in.jsonl", "--out", "whole.jsonl").code == 0
    pairs = zip(read(tmp_path / "out.jsonl"), read(tmp_path / "whole.jsonl"), strict=True)
    for resumed, whole in pairs:
        assert resumed["id"] == whole["id"]
        assert without_times(resumed["result"]) == without_times(whole["result"])


def test_a_part_file_of_another_scan_is_refused_and_kept(tmp_path: Path, cascade: Run) -> None:
    write(tmp_path / "in.jsonl", [{"text": "a walk", "more": "a bad thing"}])
    part = tmp_path / "out.jsonl.part"
    part.write_text('{"scan": {"input": "another"}}\n{"result": null}\n')
    done = cascade("scan", "in.jsonl", "--out", "out.jsonl")
    assert done.code == 1
    assert "is of another scan" in done.err
    assert "input" in done.err
    assert part.read_text().endswith('{"result": null}\n')
    part.write_text("someone's notes\n")
    assert "no part file" in cascade("scan", "in.jsonl", "--out", "out.jsonl").err
    assert part.read_text() == "someone's notes\n"


def test_part_counts_what_it_has_and_locks_others_out(tmp_path: Path) -> None:
    path, scan = tmp_path / "part", {"input": "x"}
    with Part(path, scan) as part:
        part.append(Outcome({"verdict": "VERDICT_SAFE"}))
        part.append(Outcome(None, {"code": "INVALID_ARGUMENT", "message": "no"}))
        with pytest.raises(ScanError, match="another scan is writing"):
            Part(path, scan)
    with Part(path, scan) as part:
        assert (part.done, part.bad) == (2, 1)
        part.append(Outcome({"verdict": "VERDICT_UNSAFE"}))
        assert [outcome.result and outcome.result["verdict"] for outcome in part.outcomes()] == [
            "VERDICT_SAFE",
            None,
            "VERDICT_UNSAFE",
        ]
    path.write_bytes(path.read_bytes() + b"12\n")
    with pytest.raises(ScanError, match="no outcome"):
        Part(path, scan)
    path.write_bytes(b'{"scan": {"inp')  # killed while the first line was written
    with Part(path, scan) as part:
        assert part.done == 0
        assert list(part.outcomes()) == []
