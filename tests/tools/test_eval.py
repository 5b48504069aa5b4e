import asyncio
import gzip
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from cascade.content import check_request
from cascade.evaluate.peers import published
from cascade.evaluate.rows import Row, read_folder
from cascade.evaluate.scoring import EvaluationError, Scores, evaluation_pipeline, score_rows
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import CheckResponse, Verdict
from stages.errors import StageError
from stages.stage import sigmoid
from tests.fakes import CALM, FakeStage, fake_pipeline, fake_policy
from tests.tools.conftest import Done

Run = Callable[..., Done]
BEAVERTAILS = "bce8dc8ba26e0977e13ca27b8d213514f41382f30b0f84e283cb9dc7a599a13a"

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
        assert 0 < systems[name]["aurc"]["value"] < 1
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


def test_what_escalating_buys_ends_at_the_stages_and_has_a_price(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    report = run_eval(cascade, monkeypatch, folder, "--cpu-hour-price", 36, "--json").json()
    cohort = report["sets"][0]["cohorts"][0]
    systems = {system["system"]: system for system in cohort["budgets"]["systems"]}
    assert systems["stage 1 alone"]["f1"] == cohort["systems"]["stage1"]["f1"]
    assert systems["stage 2 alone"]["f1"] == cohort["systems"]["stage2"]["f1"]
    assert systems["the policy"]["f1"] == cohort["systems"]["cascade"]["f1"]
    assert [systems[f"{n}% escalated"]["escalated"] for n in (10, 20, 30)] == [0.1, 0.2, 0.3]
    rows = [row for row in read_folder(folder)[0].rows if row.unsafe is not None]
    scores, truth = scored(tuple(rows)), np.array([row.unsafe for row in rows])
    assert systems["both, always"]["f1"]["value"] == pytest.approx(sk.f1_score(truth, scores.both_unsafe))
    tenth = np.argsort(-scores.stage1, kind="stable")[:10]
    decided = scores.stage1 >= 0.62
    decided[tenth] = scores.both_unsafe[tenth]
    assert systems["10% escalated"]["f1"]["value"] == pytest.approx(sk.f1_score(truth, decided))
    # The fake stages are no ONNX Runtime: what they cost is not known, and is not made up.
    assert systems["both, always"]["cpu_seconds"] is None
    assert report["sets"][1]["cohorts"][0]["budgets"] is None, "of one class there is no F1 to trade for"


def test_stage_2_alone_blocks_by_the_hazards_that_it_names(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    texts = [("hidden hate", 1), ("calm hate", 1), ("calm privacy", 1), ("calm", 0)]
    lines = [json.dumps({"id": n, "text": text, "unsafe": unsafe}) for n, (text, unsafe) in enumerate(texts)]
    (tmp_path / "s/named.jsonl").write_text("\n".join(lines))
    policy = fake_policy(POLICY + '[hazards.hate]\naction = "BLOCK"\n[hazards.privacy]\naction = "REVIEW"\n')

    def judge(stage1: FakeStage) -> Pipeline:
        return fake_pipeline(stage1, FakeStage("hazard", words=SECOND), policies=[policy])

    blind = FakeStage("tinysafe", words=FIRST, label_words=False)
    report = run_eval(cascade, monkeypatch, "s", "--json", judge=judge(blind)).json()
    cohort = report["sets"][0]["cohorts"][0]
    assert cohort["systems"]["stage2"]["recall"]["value"] == pytest.approx(2 / 3)
    systems = {system["system"]: system for system in cohort["budgets"]["systems"]}
    assert systems["stage 2 alone"]["f1"] == cohort["systems"]["stage2"]["f1"]
    # What stage 1 names is no merit of stage 2, even where it speaks of the same hazards.
    rows = read_folder(tmp_path / "s")[0].rows
    naming = fake_pipeline(FakeStage("hazard", words=FIRST), FakeStage("tinysafe", words=SECOND), policies=[policy])
    assert scored(rows, naming).stage2_unsafe.tolist() == [True, False, False, False]


def test_slices_by_language_script_and_length(cascade: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    texts = [("terrible things", 1, "en")] * 12 + [("ужасные calm слова", 0, "ru")] * 11 + [("bad", 0, "xx")] * 3
    lines = [json.dumps({"id": n, "text": t, "unsafe": u, "lang": k}) for n, (t, u, k) in enumerate(texts)]
    (tmp_path / "s/mixed.jsonl").write_text("\n".join(lines))
    (of_set,) = run_eval(cascade, monkeypatch, "s", "--json").json()["sets"]
    parts = {(part["kind"], part["name"]): part for part in of_set["slices"]}
    assert ("language", "xx") not in parts, "of three rows nothing is said"
    assert parts["language", "en"]["recall"]["value"] == 1.0
    assert parts["language", "en"]["fpr"]["value"] is None
    assert parts["script", "Cyrillic"]["rows"] == 11
    assert parts["script", "Cyrillic"]["fpr"]["value"] == 0.0
    assert sum(part["rows"] for (kind, _), part in parts.items() if kind == "tokens") == 26


def test_rows_near_training_rows_are_counted_and_left_out(
    cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/mine.jsonl").write_text(json.dumps({"id": 1, "text": "TERRIBLE, words number 3!", "unsafe": 1}))
    report = run_eval(cascade, monkeypatch, folder, "--training", "train", "--json").json()
    found = report["contamination"]
    assert [(file["file"], file["rows"]) for file in found["training"]] == [("mine.jsonl", 1)]
    assert found["sets"]["hazards"]["rows"] == 0
    assert found["sets"]["chats.test"]["kinds"]["equal"] == 1
    near = found["sets"]["chats.test"]["rows"]
    clean = report["sets"][0]["cohorts"][-1]
    assert clean["cohort"] == "without near-train rows"
    assert clean["rows"] <= 67 - near + 34  # the ids of the list beside the set are left out too
    assert run_eval(cascade, monkeypatch, folder, "--training", tmp_path / "sets2").code == 2


def test_categories_count_known_cells_only(cascade: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    rows = [
        {"id": n, "text": word, "unsafe": 1, "categories": cells}
        for n, (word, cells) in enumerate(
            [("terrible violence", {"violence": 1}), ("terrible", {"violence": 0, "hate": 1}), ("terrible", {})] * 4
        )
    ]
    (tmp_path / "s/kinds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = run_eval(cascade, monkeypatch, "s", "--json").json()
    found = report["sets"][0]["categories"]
    assert report["categories"] == found, "one set is all sets"
    assert found["rows"] == 8
    assert [(c["name"], c["positives"], c["known"]) for c in found["categories"]] == [("violence", 4, 8)]
    assert found["macro_f1"]["value"] == found["categories"][0]["f1"]["value"] == 1.0
    (tmp_path / "s/kinds.jsonl").write_text('{"text": "a", "unsafe": 1, "categories": {"rudeness": 1}}')
    done = run_eval(cascade, monkeypatch, "s")
    assert done.code == 1
    assert "'categories' must give TinySafe's categories" in done.err


def test_the_page_opens_by_itself(cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    run_eval(cascade, monkeypatch, folder, "--out", "r")
    page = (tmp_path / "r/report.html").read_text()
    assert not re.search(r"<script|<link|src=|href=|url\(|https?://", page)
    assert "words number" not in page
    titles = [ET.fromstring(found).findtext("title") for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert titles[:5] == [
        "Risk over coverage",
        "Quality over cost",
        "Reliability",
        "Stage 1: scores",
        "Stage 2: scores",
    ]
    (english,) = (
        part
        for part in json.loads((tmp_path / "r/report.json").read_text())["sets"][0]["slices"]
        if part["name"] == "en"
    )
    unsafe, harmless = english["positives"], english["labelled"] - english["positives"]
    assert f"language en: {english['recall']['value']:.1%} of {unsafe} unsafe rows" in page
    assert f"language en: {english['fpr']['value']:.1%} of {harmless} harmless rows" in page
    assert f"language en: {english['escalation_rate']:.1%} of 101 rows" in page


def test_peers_are_shown_for_the_same_rows_only() -> None:
    assert {found["metric"] for found in published("toxicchat.test_full5083", "all rows", 5083)} == {"f1", "auprc"}
    assert published("toxicchat.test_full5083", "all rows", 500) == []
    assert published("toxicchat.test_full5083", "without near-train rows", 5083) == []
    assert published("or_bench_hard1k_a", "all rows", 686) == []
    (known,) = published("beavertails.test.en", "all rows", 3021, [BEAVERTAILS])
    (likely,) = published("beavertails.test.en", "all rows", 3021, ["0" * 64])
    assert (known["known_file"], likely["known_file"]) == (True, False)
    assert known["peers"] == likely["peers"]
    values = [v for n in (("xstest.en", 450), ("hatecheck", 3728)) for f in published(n[0], "all rows", n[1])
              for v in f["peers"].values()]  # fmt: skip
    assert values
    assert all(0 < value < 1 for value in values)


def test_reports_side_by_side(cascade: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    for name in ("old", "new"):
        run_eval(cascade, monkeypatch, folder, "--out", name)
    done = cascade("compare", "old", "new/report.json", "--json", "--out", "both.md")
    assert done.code == 0, done.err
    models, first, *_ = done.json()
    assert models["columns"] == ["", "old", "new"]
    cells = {row[0]: row[1:] for row in first["rows"]}
    f1 = json.loads((tmp_path / "old/report.json").read_text())["sets"][0]["cohorts"][0]["systems"]["stage1"]["f1"]
    assert cells["chats.test, all rows (n 100): F1"][0].startswith(f"{f1['value']:.3f}")
    assert "hazards: macro-F1 of hazards" in (tmp_path / "both.md").read_text()
    run_eval(cascade, monkeypatch, folder, "--out", "short", "--limit", 5)
    assert "of different rows" in cascade("compare", "old", "short").err
    (tmp_path / "other.json").write_text("{}")
    assert "no report of cascade eval" in cascade("compare", "other.json").err
