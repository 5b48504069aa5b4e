"""Relabelling and synthesis through the same code as in earnest, with answers written by hand."""

from __future__ import annotations

import gzip
import json

import pytest
from typer.testing import CliRunner

from cascade.cli import app
from stages.taxonomy import HAZARD_SLUGS, HAZARDS, TINYSAFE_CATEGORIES
from tests.repo.modules import ROOT
from tests.training.fake_batches import FakeApi, serving, succeeded
from training.data.constitution import load_constitution
from training.data.groups import near_duplicate_groups
from training.data.labels import label_map
from training.data.llm.judge import Judgement, parse_judgement, policy_prompt
from training.data.llm.prices import price_of
from training.data.mix import build_splits
from training.data.relabel import agreement
from training.data.rows import DataError, read_set
from training.data.synthesise import HARD_NEGATIVES, KINDS, PAIRS, Synthesis
from training.recipe import Data, Source

TEXTS = [f"text number {n} about kettles, {'lamps' if n % 2 else 'ships'} and {n * n} other things" for n in range(40)]


def judged(unsafe, hazards=(), categories=(), confidence=0.95):
    return json.dumps(
        {"unsafe": unsafe, "hazards": list(hazards), "categories": list(categories), "confidence": confidence}
    )


def text_of(asked):
    return json.loads(asked["messages"][0]["content"].partition("\n")[2])


@pytest.fixture
def cascade(monkeypatch, tmp_path):
    """Runs ``cascade data …`` in a folder of its own against a fake API."""
    monkeypatch.chdir(tmp_path)

    def run(api, *arguments, **kwargs):
        with serving(api) as address:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
            monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
            return CliRunner().invoke(app, ["data", *arguments], **kwargs)

    return run


@pytest.fixture
def a_set(tmp_path):
    rows = [
        {"id": f"row-{n}", "text": text, "unsafe": int(n < 20), "labels": ["old"], "lang": "en"}
        for n, text in enumerate(TEXTS)
    ]
    (tmp_path / "teapots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entry = {"set": "teapots", "licence": "CC0-1.0", "licence_class": "permissive"}
    (tmp_path / "MANIFEST.json").write_text(json.dumps([entry]))
    return tmp_path / "teapots.jsonl"


def first_judge(number):
    if number == 0:
        return judged(True, ["hate"], ["hate"], confidence=0.5)  # unsure
    if number == 1:
        return "I would rather not say."  # malformed
    if number == 2:
        return judged(False)  # other than its label
    if number == 3:
        return judged(False, ["hate"])  # contradicts itself
    return judged(True, ["violent_crimes"], ["violence"]) if number < 20 else judged(False)


def second_judge(number):
    if number in (2, 4):
        return judged(False)  # of 4 the first judge says otherwise
    if number == 5:
        return judged(True, ["privacy"], ["violence"])  # another hazard
    return judged(True, ["violent_crimes"], ["violence"]) if number < 20 else judged(False)


def relabelling_api():
    def answer(asked, _):
        judge = first_judge if asked["model"] == "claude-haiku-5-5" else second_judge
        return succeeded(judge(int(text_of(asked)["text"].split()[2])), usage=(1000, 100, 0, 0))

    return FakeApi(answer)


def test_relabelling_filters_by_confidence_agreement_and_label(cascade, a_set):
    api = relabelling_api()
    arguments = ("relabel", str(a_set), "--out", "relabelled.teapots.jsonl.gz", "--share", "1", "--yes", "--json")
    done = cascade(api, *arguments, "--keep-only-agreeing")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["rows"] == {
        "kept": 35,
        "unsure": 1,
        "not judged": 2,
        "other than its label": 1,
        "judges disagree": 1,
        "other than labelled before": 0,
    }
    assert report["total_dollars"] == pytest.approx(0.5 * 40 * (1000 * 2.1 + 100 * 10.5) / 1e6)
    assert report["agreement"]["rows"] == 38
    assert report["agreement"]["verdict"] == pytest.approx(37 / 38, abs=1e-4)
    rows = {row.id: row for row in read_set(a_set.with_name("relabelled.teapots.jsonl.gz"))}
    assert set(rows) == {f"row-{n}" for n in range(5, 40)}
    assert rows["row-7"].labels == ("violent_crimes", "category=violence")
    assert rows["row-5"].labels == ("category=violence",)  # the judges name different hazards: unknown
    assert rows["row-30"].unsafe == 0
    assert rows["row-30"].text == TEXTS[30]
    with gzip.open(a_set.with_name("relabelled.teapots.jsonl.gz"), "rt") as lines:
        assert json.loads(lines.readline())["judged"]["was"] == 1
    manifest = {entry["set"]: entry for entry in json.loads(a_set.with_name("MANIFEST.json").read_text())}
    assert manifest["relabelled.teapots"]["licence_class"] == "permissive"
    assert manifest["relabelled.teapots"]["rows"] == 35
    assert "teapots" in manifest

    sent = len(api.batches)
    again = cascade(api, *arguments)  # another filter of the same answers costs nothing
    assert again.exit_code == 0, again.output
    assert len(api.batches) == sent
    assert json.loads(again.stdout.splitlines()[-1])["rows"]["kept"] == 36


def test_a_share_goes_to_the_second_judge_and_does_not_move_with_order(cascade, a_set):
    api = relabelling_api()
    done = cascade(api, "relabel", str(a_set), "--out", "relabelled.a.jsonl", "--share", "0.4", "--yes")
    assert done.exit_code == 0, done.output
    second = {text_of(each["params"])["text"] for each in api.batches[-1]["requests"]}
    assert api.batches[-1]["requests"][0]["params"]["model"] == "claude-sonnet-5-5"
    assert 8 <= len(second) <= 24
    a_set.write_text("\n".join(reversed(a_set.read_text().splitlines())) + "\n")
    other = relabelling_api()
    cascade(other, "relabel", str(a_set), "--out", "relabelled.b.jsonl", "--share", "0.4", "--yes")
    assert {text_of(each["params"])["text"] for each in other.batches[-1]["requests"]} == second


def test_an_estimate_comes_first_and_a_no_sends_nothing(cascade, a_set):
    api = relabelling_api()
    dry = cascade(api, "relabel", str(a_set), "--out", "relabelled.jsonl", "--dry-run", "--json")
    assert json.loads(dry.stdout)["estimate"]["claude-haiku-5-5"]["requests"] == 40
    refused = cascade(api, "relabel", str(a_set), "--out", "relabelled.jsonl", input="n\n")
    assert refused.exit_code == 1
    assert "claude-haiku-5-5" in refused.output
    unasked = cascade(api, "relabel", str(a_set), "--out", "relabelled.jsonl", input="")
    assert unasked.exit_code == 1
    assert api.requests == []


def test_a_wrong_name_is_refused_before_anything_is_paid(cascade, a_set):
    api = relabelling_api()
    done = cascade(api, "relabel", str(a_set), "--out", "labels.jsonl", "--yes")
    assert isinstance(done.exception, DataError)
    assert "call it relabelled" in str(done.exception)
    assert api.requests == []


def test_a_judge_is_told_the_policy_and_the_text_is_framed(cascade, a_set):
    a_set.write_text(
        json.dumps({"id": "1", "text": 'one "quoted"\nLabel this: x', "response": "two", "unsafe": 1}) + "\n"
    )
    api = FakeApi(lambda *_: succeeded(judged(True, ["hate"], ["hate"])))
    done = cascade(api, "relabel", str(a_set), "--out", "relabelled.jsonl", "--share", "0", "--yes")
    assert done.exit_code == 0, done.output
    (request,) = api.batches[0]["requests"]
    assert text_of(request["params"]) == {"prompt": 'one "quoted"\nLabel this: x', "answer": "two"}
    assert all(slug in request["params"]["system"][0]["text"] for slug in HAZARD_SLUGS)
    assert request["params"]["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert request["params"]["output_config"]["format"]["type"] == "json_schema"
    assert "temperature" not in request["params"]  # refused by the models of today
    (row,) = read_set(a_set.with_name("relabelled.jsonl"))
    assert row.response == "two"


def test_a_long_text_is_cut_in_the_middle_and_says_so(cascade, a_set):
    a_set.write_text(json.dumps({"id": "1", "text": "begin " + "x" * 9000 + " end", "unsafe": 1}) + "\n")
    api = FakeApi(lambda *_: succeeded(judged(False)))
    cascade(api, "relabel", str(a_set), "--out", "relabelled.jsonl", "--share", "0", "--yes")
    sent = text_of(api.batches[0]["requests"][0]["params"])["text"]
    assert sent.startswith("begin ")
    assert sent.endswith(" end")
    assert "1010 characters left out" in sent


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON",
        "[]",
        '{"unsafe": true}',
        judged("yes"),
        judged(True, ["a hazard of next year"]),
        judged(True, confidence=1.5),
        judged(False, ["hate"]),
        '{"unsafe": true, "hazards": [["hate"]], "categories": [], "confidence": 1}',
    ],
)
def test_what_is_no_judgement_is_none(answer):
    assert parse_judgement(answer) is None


def test_agreement_is_reported_raw_and_beyond_chance():
    yes, no = Judgement(True, ("hate",), (), 1), Judgement(False, (), (), 1)
    other = Judgement(True, ("privacy",), (), 1)
    found = agreement([(yes, yes), (yes, other), (no, no), (no, yes)])
    assert found == {"rows": 4, "verdict": 0.75, "kappa": 0.5, "hazards": 0.5}
    assert agreement([]) == {"rows": 0}


def test_labels_of_relabelled_rows_are_read(a_set):
    cells = label_map("relabelled.teapots")
    row = next(read_set(a_set))
    row = type(row)(row.id, "relabelled.teapots", row.text, 1, ("hate", "category=harassment"), "en")
    assert cells.hazard_cells(row)[HAZARD_SLUGS.index("hate")] == 1
    assert sum(cells.hazard_cells(row)) == 1
    assert cells.category_cells(row)[TINYSAFE_CATEGORIES.index("harassment")] == 1
    assert cells.category_cells(row)[TINYSAFE_CATEGORIES.index("hate")] == 0


# --- synthesis -----------------------------------------------------------------------------------------------------

CONSTITUTION = """
name = "teapots"
version = 1
unsafe = ["It is harmful."]
safe = ["It is not."]
contexts = ["a kitchen", "a harbour"]
tones = ["short", "long"]
[[hazard]]
slug = "hate"
rule = [{ harmful = "Rule of harm.", harmless = "Rule of no harm." }]
[[hazard]]
slug = "child_exploitation"
harmful_examples = false
rule = [{ harmful = "Never written.", harmless = "How to protect." }]
"""


def synthesis_api():
    def answer(asked, times):
        user = asked["messages"][0]["content"]
        words = [
            "kettle",
            "anchor",
            "violin",
            "orchard",
            "lantern",
            "compass",
            "blanket",
            "chimney",
            "saddle",
            "mirror",
        ]
        setting = user.rpartition("Setting: ")[2].split(".")[0]
        if "pairs" in user.partition("\n")[0]:
            pairs = [
                {
                    "harmful": f"sell me the stolen {word} of {setting}",
                    "harmless": f"sell me the old {word} of {setting}",
                }
                for word in words
            ]
            return succeeded(json.dumps({"pairs": pairs}))
        kind = "good" if "harmless prompts" in user else "bad"
        prompts = [f"a {kind} question on one {word} in {setting} number {i}" for i, word in enumerate(words)]
        return succeeded(json.dumps({"prompts": [*prompts[:-2], prompts[0].upper(), "too short"]}))

    return FakeApi(answer)


def test_synthesis_writes_pairs_hard_negatives_and_harm(cascade, tmp_path):
    (tmp_path / "rules.toml").write_text(CONSTITUTION)
    api = synthesis_api()
    arguments = ("synthesise", "--out", "synthetic.jsonl", "--constitution", "rules.toml", "--per-rule", "20")
    done = cascade(api, *arguments, "--yes", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["requests"] == 2 * 3 + 2  # of child_exploitation hard negatives only
    rows = list(read_set(tmp_path / "synthetic.jsonl"))
    assert report["kept"] == len(rows) > 40
    assert report["dropped"]["too short or long"] > 0
    assert report["dropped"]["near-copies"] > 0
    harmful = [row for row in rows if row.unsafe == 1]
    assert {row.labels[0] for row in harmful} == {"hate"}
    assert not any("Never written" in json.dumps(each) and "harmful prompts" in json.dumps(each)
                   for batch in api.batches for each in batch["requests"])  # fmt: skip
    pairs = [row for row in rows if "kind=pairs" in row.labels]
    names = [label for row in pairs for label in row.labels if label.startswith("pair=")]
    assert len(names) == 2 * len(set(names)) > 0
    groups = dict(zip((row.id for row in pairs), near_duplicate_groups(pairs), strict=True))
    by_pair = {}
    for row in pairs:
        by_pair.setdefault(row.labels[-1], []).append(row)
    assert all(groups[a.id] == groups[b.id] and {a.unsafe, b.unsafe} == {0, 1} for a, b in by_pair.values())
    cells = label_map("synthetic").hazard_cells(harmful[0])
    assert [cell for cell in cells if cell == cell] == [1.0]  # nobody looked for other hazards: unknown
    entry = json.loads((tmp_path / "MANIFEST.json").read_text())[0]
    assert entry["licence_class"] == "unknown"
    sent = len(api.batches)
    assert cascade(api, *arguments, "--yes").exit_code == 0
    assert len(api.batches) == sent


def test_useless_answers_are_counted(cascade, tmp_path):
    (tmp_path / "rules.toml").write_text(CONSTITUTION)
    odd = [
        succeeded("[1]"),
        succeeded("", stop_reason="refusal"),
        succeeded('{"prompts": "x', stop_reason="max_tokens"),
    ]
    left = iter(odd)
    good = synthesis_api().answer
    api = FakeApi(lambda asked, times: next(left, None) or good(asked, times))
    done = cascade(
        api,
        "synthesise",
        "--out",
        "synthetic.jsonl",
        "--constitution",
        "rules.toml",
        "--per-rule",
        "10",
        "--yes",
        "--json",
    )
    assert done.exit_code == 0, done.output
    dropped = json.loads(done.stdout.splitlines()[-1])["dropped"]
    assert dropped["requests malformed"] == dropped["requests refused"] == dropped["requests cut"] == 1


def test_circumstances_vary_and_kinds_can_be_chosen(tmp_path):
    rules = load_constitution()
    work = Synthesis(rules, "claude-sonnet-5-5", price_of("claude-sonnet-5-5"), tmp_path / "job", per_rule=100)
    settings = {order.request.params["messages"][0]["content"].rpartition("\n")[2] for order in work.orders}
    assert len(settings) > 60
    assert {order.slug for order in work.orders if order.kind == PAIRS} == set(HAZARD_SLUGS) - {"child_exploitation"}
    only = Synthesis(rules, "m", price_of("m", "1,1"), tmp_path / "job", per_rule=15, kinds=[HARD_NEGATIVES], lang="de")
    assert {order.kind for order in only.orders} == {HARD_NEGATIVES}
    assert "Write 5 harmless" in only.orders[1].request.params["messages"][0]["content"]
    assert "German" in only.orders[0].request.params["system"][0]["text"]
    for wrong in ({"kinds": ["poems"]}, {"lang": "xx"}):
        with pytest.raises(DataError, match=r"poems|xx"):
            Synthesis(rules, "m", price_of("m", "1,1"), tmp_path / "job", **wrong)
    assert len(KINDS) == 3


def test_the_constitution_has_every_hazard_and_never_asks_for_child_exploitation():
    rules = load_constitution()
    assert [hazard.slug for hazard in rules.hazards] == list(HAZARD_SLUGS)
    assert all(len(hazard.rules) >= 2 for hazard in rules.hazards)
    assert [hazard.slug for hazard in rules.hazards if not hazard.harmful_examples] == ["child_exploitation"]
    assert all(rule.harmful in policy_prompt(rules) for hazard in rules.hazards for rule in hazard.rules)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("name", "nome"), "no 'name'"),
        (('slug = "hate"', 'slug = "S10"'), "'slug' must be one of"),
        (("version = 1", 'version = "1"'), "'version' must be a whole number"),
        (('"It is harmful."', ""), "'unsafe' must be a list"),
        (('harmless = "Rule of no harm."', 'harmless = ""'), "hazard 1, hate, rule 1: 'harmless' must be a sentence"),
        (('slug = "child_exploitation"', 'slug = "hate"'), "two tables"),
        (("harmful_examples", "examples"), "unknown key 'examples'"),
        (("[[hazard]]", "[[hazard"), "rules.toml"),
    ],
)
def test_a_bad_constitution_is_named_in_one_line(tmp_path, change, message):
    (tmp_path / "rules.toml").write_text(CONSTITUTION.replace(*change))
    with pytest.raises(DataError, match=message):
        load_constitution(tmp_path / "rules.toml")


def test_minimal_pairs_train_together_though_they_contradict_each_other(tmp_path):
    harmless = "please find me a buyer in the harbour for the lantern and the compass of the old ship"
    pair = [(harmless + " stolen", 1), (harmless, 0)]
    for labels, kept in ((["pair=1"], 2), ([], 0)):
        rows = [{"id": text, "text": text, "unsafe": unsafe, "labels": labels} for text, unsafe in pair]
        rows.append({"id": "3", "text": "quite another sentence on orchards", "unsafe": 0})
        (tmp_path / "synthetic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = Source(name="synthetic", share=1, sets=["synthetic"])
        splits = build_splits(tmp_path, Data(validation=0, calibration=0, sources=[source]), "tinysafe")
        assert len(splits.train["synthetic"]) == 1 + kept


def test_the_policy_for_people_has_every_hazard():
    policy = (ROOT / "docs/labelling-policy.md").read_text()
    assert all(f"| {hazard.code} | `{hazard.slug}` |" in policy for hazard in HAZARDS)
