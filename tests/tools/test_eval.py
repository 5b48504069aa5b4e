import asyncio
import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from cascade.content import check_request
from cascade.evaluate.rows import Row, read_folder
from cascade.evaluate.scoring import EvaluationError, Scores, evaluation_pipeline, score_rows
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import CheckResponse, Verdict
from stages.errors import StageError
from stages.stage import sigmoid
from tests.fakes import CALM, FakeStage, fake_pipeline, fake_policy
from tests.tools.conftest import Done

Run = Callable[..., Done]

# "bad" is a false alarm of stage 1 that stage 2 takes back, "hidden" is what stage 1 lets pass.
FIRST = {"bad": 1.0, "unsure": -1.0, "terrible": 5.0}
SECOND = {"bad": -2.0, "unsure": 2.0, "terrible": 4.0, "hidden": 3.0}
POLICY = '[route]\naudit_rate = 0.2\n[merge]\nrule = "logit_mean"\nsegments = "max"\ncontroversial_threshold = 0.3\n'
TRUTH = {"calm": 0, "bad": 0, "unsure": 1, "terrible": 1, "hidden": 1}


def pipeline(**options: Any) -> Pipeline:
    first = FakeStage("tinysafe", words=FIRST)
    second = FakeStage("hazard", words=SECOND, **options)
    return fake_pipeline(first, second, policies=[fake_policy(POLICY)])


def chats() -> list[dict]:
    """Each kind of text many times, some with a response, some labels wrong on purpose."""
    rows = []
    for number in range(100):
        word = list(TRUTH)[number % 5]
        row = {"id": f"c{number}", "text": f"{word} words number {number}", "unsafe": TRUTH[word], "lang": "en"}
        row["labels"] = [f"human_annotation={number < 40}"]
        if number % 10 == 0:
            row["unsafe"] = 1 - TRUTH[word]
        if number % 7 == 0:
            row |= {"text": f"calm number {number}", "response": f"a {word} answer"}
        rows.append(row)
    rows.append({"id": "unknown", "text": "terrible", "unsafe": None, "labels": [], "lang": "en"})
    return rows


def hazards() -> list[dict]:
    words = [("vcr", "violent_crimes"), ("hte", "hate"), ("hte", "privacy"), ("spc_fin", "specialized_advice")]
    rows = [
        {"id": f"h{n}", "text": f"hidden {word}", "unsafe": None if label.startswith("spc") else 1, "labels": [label]}
        for n, (label, word) in enumerate(words * 5)
    ]
    return [*rows, {"id": "e", "text": "hidden elections", "unsafe": None, "labels": ["spc_ele"]}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sets"
    folder.mkdir()
    for name, rows in (("chats.test", chats()), ("hazards", hazards())):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "chats.test_near_train_ids.json").write_text(json.dumps([f"c{n}" for n in range(0, 100, 3)]))
    return folder


def answers(rows: tuple[Row, ...]) -> list[CheckResponse]:
    """What ``check`` says of each row."""

    async def run() -> list[CheckResponse]:
        judge = pipeline()
        found = [await judge.check(check_request(row.text, row.response)) for row in rows]
        await judge.close()
        return found

    return asyncio.run(run())


def scored(rows: tuple[Row, ...], judge: Pipeline | None = None) -> Scores:
    async def run() -> Scores:
        loaded = judge or pipeline()
        try:
            return await score_rows(rows, evaluation_pipeline(loaded), in_flight=7)
        finally:
            await loaded.close()

    return asyncio.run(run())


def test_the_cascade_is_what_check_answers_and_the_stages_are_what_they_say_alone(folder: Path) -> None:
    rows = read_folder(folder)[0].rows
    scores, checked = scored(rows), answers(rows)
    assert scores.cascade.tolist() == [answer.unsafe_probability for answer in checked]
    assert scores.unsafe.tolist() == [answer.verdict == Verdict.VERDICT_UNSAFE for answer in checked]
    assert scores.controversial.tolist() == [answer.verdict == Verdict.VERDICT_CONTROVERSIAL for answer in checked]
    assert scores.escalated.tolist() == [answer.route.escalated for answer in checked]
    words = [
        next(word for word in TRUTH if word in f"{row.text} {row.response}".replace("calm number", "")) for row in rows
    ]
    assert scores.stage1 == pytest.approx([sigmoid(FIRST.get(word, CALM)) for word in words])
    assert scores.stage2 == pytest.approx([sigmoid(SECOND.get(word, CALM)) for word in words])
    # The rows are of every kind: passed, escalated, audited, taken back, found late, and missed.
    assert {"PASSED", "FLAGGED", "UNCERTAIN", "AUDITED"} == set(scores.reason.tolist())
    assert scores.unsafe.any()
    assert scores.controversial.any()
    assert 0 < scores.escalated.mean() < 1


def run_eval(cascade: Run, monkeypatch: pytest.MonkeyPatch, *arguments: object, judge: Pipeline | None = None) -> Done:
    monkeypatch.setattr("cascade.build.build_pipeline", lambda **_: judge or pipeline())
    return cascade("eval", *arguments)


def test_the_report_has_the_figures_of_every_system(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    done = run_eval(cascade, monkeypatch, folder, "--out", "made/report", "--seed", 3)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "made/report/report.json").read_text())
    of_chats, of_hazards = report["sets"]
    cohorts = {cohort["cohort"]: cohort for cohort in of_chats["cohorts"]}
    assert list(cohorts) == ["all rows", "human_annotation=True", "without near-train rows"]
    assert [cohort["rows"] for cohort in cohorts.values()] == [101, 40, 67]
    assert [cohort["labelled"] for cohort in cohorts.values()] == [100, 40, 66]

    rows = [row for row in read_folder(folder)[0].rows if row.unsafe is not None]
    checked, scores = answers(tuple(rows)), scored(tuple(rows))
    truth = np.array([row.unsafe for row in rows])
    decided = {
        "stage1": scores.stage1 >= 0.62,
        "stage2": scores.stage2 >= 0.55,
        "cascade": np.array([answer.verdict == Verdict.VERDICT_UNSAFE for answer in checked]),
        "cascade_strict": np.array([answer.verdict != Verdict.VERDICT_SAFE for answer in checked]),
    }
    systems = cohorts["all rows"]["systems"]
    for name, decisions in decided.items():
        assert systems[name]["precision"]["value"] == pytest.approx(sk.precision_score(truth, decisions))
        assert systems[name]["recall"]["value"] == pytest.approx(sk.recall_score(truth, decisions))
        assert systems[name]["f1"]["value"] == pytest.approx(sk.f1_score(truth, decisions))
        assert systems[name]["fpr"]["value"] == pytest.approx(np.mean(decisions[~truth]))
        assert systems[name]["f1"]["low"] < systems[name]["f1"]["value"] < systems[name]["f1"]["high"]
    for name in ("stage1", "stage2", "cascade"):
        ranked = getattr(scores, name)
        assert systems[name]["auroc"]["value"] == pytest.approx(sk.roc_auc_score(truth, ranked))
        assert systems[name]["auprc"]["value"] == pytest.approx(sk.average_precision_score(truth, ranked))
    assert len({systems[name]["f1"]["value"] for name in systems}) == 4
    gain = cohorts["all rows"]["f1_gain_over_stage1"]["value"]
    assert gain == pytest.approx(systems["cascade"]["f1"]["value"] - systems["stage1"]["f1"]["value"])
    everything = answers(read_folder(folder)[0].rows)
    assert cohorts["all rows"]["escalation_rate"] == pytest.approx(np.mean([a.route.escalated for a in everything]))

    named = {hazard["slug"]: hazard for hazard in of_hazards["hazards"]["hazards"]}
    assert {slug: hazard["rows"] for slug, hazard in named.items()} == {
        "violent_crimes": 5,
        "specialized_advice": 5,
        "hate": 10,
    }
    assert named["hate"]["recall"]["value"] == 0.5
    assert of_hazards["hazards"]["macro_f1"]["value"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert of_hazards["hazards"]["left_out"]["slug"] == "elections"
    assert of_hazards["hazards"]["left_out"]["f1"]["value"] == 1.0
    assert of_chats["hazards"] is None


def test_the_report_says_what_was_measured(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    done = run_eval(cascade, monkeypatch, folder, "--out", "r", "--seed", 3, "--limit", 30, "--json")
    report = done.json()
    assert report == json.loads((tmp_path / "r/report.json").read_text())
    assert report["command"] == f"cascade eval {folder} --out r --seed 3 --limit 30 --json"
    assert (report["seed"], report["limit"], report["resamples"]) == (3, 30, 1000)
    assert report["sets"][0]["cohorts"][0]["rows"] == 30
    assert report["policy"] == {"name": "default", "revision": fake_policy(POLICY).revision}
    assert [model["name"] for model in report["models"]] == ["fake-tinysafe", "fake-hazard"]
    assert report["cpu"]
    digest = hashlib.sha256((folder / "chats.test.jsonl.gz").read_bytes()).hexdigest()
    assert report["sets"][0]["files"]["chats.test.jsonl.gz"] == digest
    page = (tmp_path / "r/report.md").read_text()
    for words in (report["command"], report["cpu"], report["date"], digest, "fake-hazard at revision r1", "0" * 64):
        assert words in page
    f1 = report["sets"][0]["cohorts"][0]["systems"]["cascade"]["f1"]
    assert f"{f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}]" in page
    assert "words number" not in page + done.out
    again = run_eval(cascade, monkeypatch, folder, "--out", "r", "--seed", 3, "--limit", 30, "--json").json()
    assert again["sets"] == report["sets"]


def test_tables_for_people(cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    done = run_eval(cascade, monkeypatch, folder, "--limit", 20)
    for words in ("stage 1 alone", "stage 2 alone", "cascade, strict", "AUPRC", "macro-F1", "escalated"):
        assert words in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_row_without_a_full_answer_ends_it(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    rows = read_folder(folder)[0].rows
    with pytest.raises(EvaluationError, match="row c1: degraded answer: stage2"):
        scored(rows[1:3], pipeline(fail=lambda windows: StageError("broken")))
    (folder / "bad.jsonl").write_text('{"id": "the empty one", "text": "", "unsafe": 0}\n')
    done = run_eval(cascade, monkeypatch, folder, "--out", "r")
    assert done.code == 1
    assert "row the empty one: text is empty" in done.err.splitlines()[-1]
    assert not (tmp_path / "r/report.json").exists()


def test_needs_sets_and_both_stages(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    assert run_eval(cascade, monkeypatch, "missing").code == 2
    (tmp_path / "none").mkdir()
    assert run_eval(cascade, monkeypatch, "none").code == 1
    done = run_eval(cascade, monkeypatch, folder, judge=fake_pipeline(alone=True))
    assert done.code == 1
    assert "needs a stage 2" in done.err
