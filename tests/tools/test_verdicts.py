"""Doubtful labels are found, judged blind by two, kept without their texts, and go before the sets' own labels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from stages.taxonomy import HAZARD_INDEX
from tests.tools.conftest import Done
from training.data import mix
from training.data.agreement import kappa
from training.data.mix import build_splits
from training.data.rows import DataError, Row
from training.data.verdicts import Judgement, judged, load_finals, verdict_id
from training.recipe import Data, Source

Run = Callable[..., Done]
# The fake models call "terrible" unsafe and everything else safe.
ROWS = [
    ("calm harbour", 0),
    ("terrible storm", 1),
    ("quiet street", 1),
    ("Terrible noise", 0),
    ("calm garden", 1),
    ("bad weather", 1),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("one", "two"):
        lines = [
            {"id": f"{name}-{n}", "text": f"{text} {name}", "unsafe": unsafe, "labels": ["S7"] if unsafe else []}
            for n, (text, unsafe) in enumerate(ROWS)
        ]
        lines.append({"id": "x", "text": "terrible exchange", "response": "terrible", "unsafe": 0})
        lines.append({"id": "n", "text": "terrible, nobody knows", "unsafe": None})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.usefixtures("fakes")
def test_what_models_contradict_most_is_written_first(cascade: Run, data: Path, tmp_path: Path) -> None:
    out, blind = tmp_path / "doubt.jsonl", tmp_path / "blind.jsonl"
    options = ("--set", "one", "--set", "two", "--out", out, "--blind", blind)
    done = cascade("data", "disagreements", "--data", data, "--n", 6, "--per-set", 3, *options)
    assert done.code == 0, done.err
    rows = read(out)
    assert {row["text"].rpartition(" ")[0] for row in rows} == {"quiet street", "Terrible noise", "calm garden"}
    assert [row["set"] for row in rows].count("one") == [row["set"] for row in rows].count("two") == 3
    assert [row["distance"] for row in rows] == sorted((row["distance"] for row in rows), reverse=True)
    assert rows[0]["distance"] > 0.97
    assert all(set(row) == {"id", "text", "lang"} for row in read(blind))
    assert [row["id"] for row in read(blind)] == sorted(verdict_id(row["text"]) for row in rows)
    scored = (out.with_name("doubt.jsonl.scores.jsonl")).stat().st_mtime_ns
    assert cascade("data", "disagreements", "--data", data, "--n", 2, *options).code == 0
    assert len(read(out)) == 2
    assert out.with_name("doubt.jsonl.scores.jsonl").stat().st_mtime_ns == scored, "it was scored again"


def test_no_text_is_written_into_the_repository(cascade: Run, data: Path) -> None:
    inside = Path(mix.__file__).parent / "doubt.jsonl"
    done = cascade("data", "disagreements", "--data", data, "--set", "one", "--out", inside)
    assert done.code == 2
    assert not inside.exists()


@pytest.fixture
def judges(tmp_path: Path) -> tuple[Path, Path, Path]:
    """What was asked, and two judges' answers: equal, other hazards, another verdict, unclear."""
    ids = [f"{n:016x}" for n in range(5)]
    rows = write(tmp_path / "rows.jsonl", [{"id": name, "set": "one", "text": "a secret text"} for name in ids])
    said_a: list[tuple[bool | None, list[str]]] = [
        (True, ["hate", "privacy"]), (True, ["hate"]), (True, []), (None, []), (False, []),
    ]  # fmt: skip
    said_b: list[tuple[bool | None, list[str]]] = [
        (True, ["privacy", "hate"]), (True, ["privacy"]), (False, []), (None, []), (False, []),
    ]  # fmt: skip
    a, b = (
        write(
            tmp_path / f"{name}.jsonl",
            [{"id": i, "unsafe": unsafe, "hazards": h} for i, (unsafe, h) in zip(ids, said, strict=True)],
        )
        for name, said in (("a", said_a), ("b", said_b))
    )
    return rows, a, b


def test_two_judges_are_joined_without_the_texts(cascade: Run, judges: tuple[Path, Path, Path], tmp_path: Path) -> None:
    rows, a, b = judges
    (tmp_path / "store").mkdir()
    out = tmp_path / "store/first.jsonl"
    given = ("data", "verdicts", "--rows", rows, "--judge-a", a, "--judge-b", b, "--out", out, "--json")
    figures = cascade(*given).json()["first.jsonl"]
    assert "secret" not in out.read_text()
    finals = [line["final"] for line in read(out)]
    assert finals == [
        {"unsafe": True, "hazards": ["privacy", "hate"]},
        {"unsafe": True, "hazards": None},
        None,
        None,
        {"unsafe": False, "hazards": []},
    ]
    assert (figures["rows"], figures["equal"], figures["left_out"]) == (5, 0.8, 2)
    assert figures["equal_hazards"] == 0.5
    assert figures["kappa"] == pytest.approx(cohen_kappa_score(["u", "u", "u", "?", "s"], ["u", "u", "s", "?", "s"]))
    third = write(tmp_path / "third.jsonl", [{"id": f"{2:016x}", "unsafe": True, "hazards": ["elections"]}])
    assert cascade(*given, "--third", third).json()["first.jsonl"]["left_out"] == 1
    assert read(out)[2]["final"] == {"unsafe": True, "hazards": ["elections"]}
    shown = cascade("data", "agreement", out).out
    assert "0.800" in shown
    assert load_finals(out.parent)[f"{3:016x}"] is None


def test_judges_who_agree_only_by_chance_have_no_kappa() -> None:
    assert kappa([(True, True)] * 3) is None
    assert kappa([(True, False), (False, True)]) == -1.0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"id": "0" * 16, "unsafe": True, "text": "a secret text"}, "text: Extra"),
        ({"id": "zero", "unsafe": True}, "id"),
        ({"id": "0" * 16, "unsafe": True, "hazards": ["wickedness"]}, "no hazard"),
        ({"id": "0" * 16, "unsafe": False, "hazards": ["hate"]}, "does not call unsafe"),
        ({"id": "1" * 16, "unsafe": True}, "differ"),
    ],
)
def test_a_wrong_answer_is_named_and_nothing_written(
    cascade: Run, tmp_path: Path, line: dict[str, Any], says: str
) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"id": "0" * 16, "set": "one"}])
    good, bad = (
        write(tmp_path / f"{name}.jsonl", [answer])
        for name, answer in (("good", {"id": "0" * 16, "unsafe": True}), ("bad", line))
    )
    out = tmp_path / "out.jsonl"
    done = cascade("data", "verdicts", "--rows", rows, "--judge-a", good, "--judge-b", bad, "--out", out)
    assert done.code == 1
    assert says in done.err
    assert "secret" not in done.err
    assert not out.exists()


def test_a_store_that_contradicts_its_judges_or_itself_is_refused(tmp_path: Path) -> None:
    said = {"unsafe": True, "hazards": ["hate"]}
    line = {"set": "one", "id": "0" * 16, "judge_a": said, "judge_b": said, "final": said}
    write(tmp_path / "a.jsonl", [line | {"final": {"unsafe": False, "hazards": []}}])
    with pytest.raises(DataError, match=r"a\.jsonl:1.*both judges agree"):
        load_finals(tmp_path)
    write(tmp_path / "a.jsonl", [line])
    calm = {"unsafe": False, "hazards": []}
    write(tmp_path / "b.jsonl", [line | {"judge_a": calm, "judge_b": calm, "final": calm}])
    with pytest.raises(DataError, match="two verdicts"):
        load_finals(tmp_path)


def test_verdicts_go_before_labels_where_rows_are_loaded(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finals = {
        verdict_id("quiet street one"): Judgement(unsafe=False),
        verdict_id("Terrible noise one"): Judgement(unsafe=True, hazards=("hate",)),
        verdict_id("calm garden one"): None,
    }
    monkeypatch.setattr(mix, "load_finals", lambda: finals)
    source = Source(name="one", sets=["one"])
    kept = build_splits(data, Data(validation=0, calibration=0, sources=[source]), "hazard").train["one"]
    by_text = {example.text: example for example in kept}
    assert by_text["quiet street one"].unsafe == 0
    assert set(by_text["quiet street one"].labels) == {0.0}
    assert by_text["Terrible noise one"].unsafe == 1
    assert by_text["Terrible noise one"].labels[HAZARD_INDEX["hate"]] == 1
    assert by_text["Terrible noise one"].labels[HAZARD_INDEX["privacy"]] == 0
    assert "calm garden one" not in by_text
    untouched = build_splits(data, Data(validation=0, calibration=0, verdicts=False, sources=[source]), "hazard")
    assert {example.text: example.unsafe for example in untouched.train["one"]}["Terrible noise one"] == 0


def test_copies_share_a_verdict_and_unknown_hazards_are_unknown() -> None:
    row = Row("r", "wildguardmix.train", "quiet  STREET!", 0, ("pair=7",), "en")
    finals = {verdict_id("quiet street"): Judgement(unsafe=True, hazards=None)}
    after = judged(row, finals)
    assert after == replace(row, unsafe=1, judged=True)
    assert after is not None
    assert all(map(math.isnan, mix.JUDGED.hazard_cells(after)))
