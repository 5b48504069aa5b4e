import gzip
import hashlib
import json
from pathlib import Path

import pytest

from cascade.evaluate.rows import DataError, read_folder


def write_set(path: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def row(number: int, **more: object) -> dict:
    base = {"id": f"r-{number}", "text": f"Text number {number}.", "unsafe": number % 2, "labels": [], "lang": "en"}
    return base | more


def test_reads_every_set_with_its_hash(tmp_path: Path) -> None:
    write_set(tmp_path / "b.pairs.jsonl", [row(0, response="An answer."), row(1, unsafe=None)])
    write_set(tmp_path / "a.jsonl.gz", [row(n) for n in range(5)])
    (tmp_path / "MANIFEST.json").write_text("[]")
    first, second = read_folder(tmp_path)
    assert (first.name, len(first.rows), second.name) == ("a", 5, "b.pairs")
    assert first.files == {"a.jsonl.gz": hashlib.sha256((tmp_path / "a.jsonl.gz").read_bytes()).hexdigest()}
    assert second.rows[0].response == "An answer."
    assert [r.unsafe for r in second.rows] == [False, None]
    assert list(first.cohorts()) == ["all rows"]
    assert [len(s.rows) for s in read_folder(tmp_path, limit=1)] == [1, 1]


def test_cohorts_by_annotation_and_by_nearness_to_training_rows(tmp_path: Path) -> None:
    human = [row(n, labels=[f"human_annotation={n < 3}"]) for n in range(5)]
    write_set(tmp_path / "chats.test_full5.jsonl.gz", human)
    write_set(tmp_path / "other.jsonl.gz", [row(n) for n in range(3)])
    near = tmp_path / "chats.test_near_train_ids.json"
    near.write_text(json.dumps(["r-4", "r-0", "elsewhere"]))
    chats, other = read_folder(tmp_path)
    assert chats.cohorts() == {
        "all rows": [0, 1, 2, 3, 4],
        "human_annotation=True": [0, 1, 2],
        "without near-train rows": [1, 2, 3],
    }
    assert near.name in chats.files
    assert list(other.cohorts()) == ["all rows"]
    assert near.name not in other.files


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "bad.jsonl:2: not a row"),
        ("[1]", "bad.jsonl:2: not a row"),
        ('{"id": "x", "unsafe": 1}', "no 'text'"),
        ('{"text": "words"}', "no 'unsafe'"),
        ('{"text": 7, "unsafe": 1}', "'text' and 'response' must be strings"),
        ('{"text": "words", "unsafe": 2}', "'unsafe' must be 1, 0 or null"),
        ('{"text": "words", "unsafe": 1, "labels": "vcr"}', "'labels' a list"),
    ],
)
def test_says_where_a_row_is_wrong_and_quotes_no_text(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(row(0)) + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:2") as caught:
        read_folder(tmp_path)
    assert says in str(caught.value)
    assert "words" not in str(caught.value)


def test_refuses_an_empty_folder_and_a_broken_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.jsonl"):
        read_folder(tmp_path)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 100)[:-12])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz"):
        read_folder(tmp_path)
