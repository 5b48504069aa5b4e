"""Evaluation rows are found among training rows, whether copied, quoted or slightly changed, and not elsewhere."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cascade.cli import app
from training.data.contamination import Evaluation, check_sets, read_evaluation
from training.data.groups import grams
from training.data.rows import DataError, read_set

LONG = (
    "please tell me how the old lighthouse keeper repaired the great lamp during the storm of that winter and who "
    "brought him oil and bread across the frozen bay when no ship could sail"
)
SHORT = "which kettle is the best one for a small kitchen by the sea with salt air and no gas but good wind"
CHANGED = SHORT.replace("kitchen", "pantry")  # fewer than half of its 8-grams are left


def evaluation(*texts):
    return Evaluation(("eval", f"e{number}", text) for number, text in enumerate(texts))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (LONG.upper().replace(" ", "  ") + "!", "equal"),
        ("Well then: " + LONG + " - thank you very much indeed", "8-grams"),
        (" ".join(LONG.split()[:20]) + " or did somebody else do it", "8-grams"),
        (CHANGED.replace("which kettle", "what pan"), None),
        (CHANGED, "similar"),
        (SHORT + " side", "8-grams"),
        ("which kettle should I buy for my kitchen", None),
        (" ".join(reversed(LONG.split())), None),
        ("", None),
        ("?!", None),
    ],
)
def test_what_hits_and_what_does_not(text, kind):
    hit = evaluation(LONG, SHORT, "?!").find(text)
    assert (hit.kind if hit else None) == kind


def test_no_similar_text_is_missed():
    index, words = evaluation("a text on nothing of this", SHORT, CHANGED), SHORT.split()
    seen = set()
    for first in range(len(words)):
        for second in range(first, len(words)):
            text = " ".join("x" if place in (first, second) else word for place, word in enumerate(words))
            own = grams(text)
            likeness = max(len(each & own) / len(each | own) for each in (grams(SHORT), grams(CHANGED)))
            hit = index.find(text)
            if hit is None or hit.kind == "similar":
                assert (hit is not None) == (likeness >= 0.7), text
                seen.add(hit is None)
    assert seen == {True, False}


def test_scripts_without_spaces_are_compared_by_characters():
    text = "请告诉我灯塔看守人在那年冬天的暴风雨中是如何修理那盏大灯的以及谁给他送来了油"
    assert evaluation(text).find("你好" + text + "谢谢").kind == "8-grams"
    assert evaluation(text).find("今天的天气很好我们一起去海边散步然后回家做晚饭吧好不好呀朋友") is None


def test_the_nearest_evaluation_row_is_named():
    hit = evaluation("something else on trains and rails", SHORT).find(SHORT)
    assert (hit.evaluation_set, hit.evaluation_id) == ("eval", "e1")


@pytest.fixture
def folders(tmp_path):
    """A folder of training sets and one of evaluation sets."""
    (tmp_path / "train").mkdir()
    (tmp_path / "eval").mkdir()
    rows = [LONG, SHORT, "a recipe for plum dumplings with poppy seeds", "another clean row on orchards in spring"]
    lines = [json.dumps({"id": f"t{n}", "text": text, "unsafe": n % 2, "more": "kept"}) for n, text in enumerate(rows)]
    (tmp_path / "train/tea.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "train/clean.jsonl").write_text(lines[3] + "\n")
    entry = {"set": "tea", "licence": "CC0-1.0", "licence_class": "permissive", "rows": 4}
    (tmp_path / "train/MANIFEST.json").write_text(json.dumps([entry]))
    (tmp_path / "eval/one.jsonl").write_text(json.dumps({"id": "e", "text": LONG, "unsafe": 0}) + "\n")
    (tmp_path / "eval/two.jsonl").write_text(json.dumps({"id": "f", "text": CHANGED, "unsafe": 0}) + "\n")
    return tmp_path


def test_a_filtered_copy_keeps_the_other_lines_as_they_are(folders):
    paths = [folders / "train/tea.jsonl", folders / "train/clean.jsonl"]
    report = check_sets(read_evaluation([folders / "eval"]), paths, folders / "out")
    assert dict(report.rows) == {"tea": 4, "clean": 1}
    assert dict(report.hits) == {("tea", "one", "equal"): 1, ("tea", "two", "similar"): 1}
    assert report.of("clean") == 0
    assert (folders / "out/tea.jsonl").read_text().splitlines() == paths[0].read_text().splitlines()[2:]
    manifest = {entry["set"]: entry for entry in json.loads((folders / "out/MANIFEST.json").read_text())}
    assert manifest["tea"]["licence"] == "CC0-1.0"
    assert (manifest["tea"]["rows"], manifest["tea"]["dropped_near_evaluation"]) == (2, 2)
    assert len(list(read_set(folders / "out/clean.jsonl"))) == 1


def test_the_source_is_never_overwritten(folders):
    with pytest.raises(DataError, match="not overwritten"):
        check_sets(read_evaluation([folders / "eval"]), [folders / "train/tea.jsonl"], folders / "train")


def test_the_command_reports_and_fails_if_asked_to(folders):
    arguments = ["data", "contamination", str(folders / "train"), "--eval", str(folders / "eval")]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["evaluation_rows"], found["found"], found["sets"]) == (2, 2, {"clean": 1, "tea": 4})
    table = CliRunner().invoke(app, [*arguments, "--strict"])
    assert table.exit_code == 3
    assert "similar" in table.output
    clean = [*arguments[:2], str(folders / "train/clean.jsonl"), *arguments[3:], "--strict"]
    assert CliRunner().invoke(app, clean).exit_code == 0
