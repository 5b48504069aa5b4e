"""The commands on the embedded models, in processes of their own: one text gets the same answer everywhere."""

import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.registry import EMBEDDED
from tests.tools.conftest import Done, in_process

COMMAND = [sys.executable, "-m", "cascade.cli"]
TEXTS = [
    "How do I bake a loaf of rye bread?",
    "What does the law say about fences between gardens?",
    "Tell me how to break into my neighbour's house at night.",
    "Wo finde ich einen guten Zahnarzt in der Nähe?",
    "My tooth hurts, how many painkillers may I take at once? " * 40,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def classified(folder: Path) -> list[dict]:
    done = in_process(COMMAND, "classify", "-", "--json", folder=folder, stdin="\n".join(TEXTS).encode())
    assert done.code == 0, done.err
    return done.lines()


def run(folder: Path, *arguments: object) -> Done:
    done = in_process(COMMAND, *arguments, folder=folder)
    assert done.code == 0, done.err
    return done


def same(one: Any, other: Any) -> bool:
    """Equal but for the times."""
    if isinstance(one, dict):
        kept = [{key: value for key, value in tree.items() if not key.endswith("Ms")} for tree in (one, other)]
        return kept[0].keys() == kept[1].keys() and all(same(kept[0][key], kept[1][key]) for key in kept[0])
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == pytest.approx(other, abs=1e-6)) if isinstance(one, float) else bool(one == other)


def test_check_and_verify_find_nothing_wrong(folder: Path) -> None:
    assert run(folder, "check", "--json").json()["ok"] is True
    verified = run(folder, "models", "verify", "--json").json()
    assert [(model["model"], model["ok"]) for model in verified] == [(name, True) for name in EMBEDDED]
    listed = run(folder, "models", "list", "--json").json()
    assert all(model["licence"] != model["code_licence"] for model in listed)


def test_scan_answers_as_classify_does_in_every_format(folder: Path, classified: list[dict]) -> None:
    rows = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS, 1)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *(row.values() for row in rows)])
    pq.write_table(pa.Table.from_pylist(rows), folder / "in.parquet")
    for suffix in ("jsonl", "csv", "parquet"):
        run(folder, "scan", f"in.{suffix}", "--out", f"out.{suffix}", "--strict")
    with (folder / "out.csv").open(newline="") as file:
        of_csv = [json.loads(row["result"]) for row in csv.DictReader(file)]
    of_jsonl = [json.loads(line)["result"] for line in (folder / "out.jsonl").read_text().splitlines()]
    of_parquet = [json.loads(result) for result in pq.read_table(folder / "out.parquet").column("result").to_pylist()]
    for results in (of_jsonl, of_csv, of_parquet):
        assert same(results, classified)


def test_eval_counts_what_classify_answers(folder: Path, classified: list[dict]) -> None:
    rows = [{"id": str(n), "text": text, "unsafe": n % 2, "labels": [], "lang": "en"} for n, text in enumerate(TEXTS)]
    (folder / "sets").mkdir()
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "sets" / "own.jsonl.gz").write_bytes(gzip.compress(data))
    report = run(folder, "eval", "sets", "--json").json()
    (cohort,) = report["sets"][0]["cohorts"]
    assert cohort["escalation_rate"] == pytest.approx(sum(a["route"]["escalated"] for a in classified) / len(TEXTS))
    decided = [answer["verdict"] == "VERDICT_UNSAFE" for answer in classified]
    hits = sum(unsafe for row, unsafe in zip(rows, decided, strict=True) if row["unsafe"])
    assert cohort["systems"]["cascade"]["recall"]["value"] == pytest.approx(hits / 2)
    alarms = sum(unsafe for row, unsafe in zip(rows, decided, strict=True) if not row["unsafe"])
    assert cohort["systems"]["cascade"]["fpr"]["value"] == pytest.approx(alarms / 3)
    assert [model["name"] for model in report["models"]] == [stage["model"] for stage in _stages(classified)]
    assert (folder / "report" / "report.md").is_file()


def _stages(classified: list[dict]) -> list[dict]:
    return max((answer["stages"] for answer in classified), key=len)
