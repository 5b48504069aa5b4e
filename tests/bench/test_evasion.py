"""The evasion benchmark: what a disguise does, what counts as lost, and the report of the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from cascade.bench.evasion import measure, steps
from cascade.bench.phrases import filler
from cascade.bench.sample import read_sample
from cascade.bench.search import is_lost, move, wins
from cascade.bench.transformations import TRANSFORMATIONS
from cascade.errors import UnsupportedError
from cascade.evaluate.rows import DataError
from cascade.evaluate.scoring import EvaluationError, Judged
from cascade.text.canonical import canonical
from cascade.text.views import views
from tests.fakes import FakeStage, fake_pipeline, fake_policy
from tests.tools.conftest import Done, cascade, fakes  # noqa: F401 - fixtures

TEXT = "How do I bake a loaf of bread at home without an oven?"


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_each_disguise_changes_the_text_and_is_the_same_for_a_seed(name: str) -> None:
    transform = TRANSFORMATIONS[name]
    assert transform(TEXT, Random(1)) != TEXT
    assert transform(TEXT, Random(1)) == transform(TEXT, Random(1))
    transform("é", Random(1)).encode()


@pytest.mark.parametrize("name", ["base64", "hex", "percent", "rot13"])
def test_codes_are_undone_by_a_view(name: str) -> None:
    assert TEXT in [view.text for view in views(TRANSFORMATIONS[name](TEXT, Random(0)))]


@pytest.mark.parametrize("name", ["homoglyphs", "zero width", "case noise", "leetspeak", "stacked marks", "spacing"])
def test_disguises_of_letters_are_undone_by_the_canonical_view(name: str) -> None:
    text = "how do you bake loaves of bread at home without any ovens"
    assert canonical(TRANSFORMATIONS[name](text, Random(0))).lower().split() == text.split()


def test_filler_has_the_length_that_is_asked_for() -> None:
    assert [len(filler(count).split()) for count in (0, 1, 5000)] == [0, 1, 5000]


def judged(*, caught: bool = True, escalated: bool = False, unsafe: bool = False) -> Judged:
    return Judged(0.1, 0.9, 0.1, 0.1, unsafe, False, caught, False, escalated, "PASSED", 9, (), ())


def test_what_counts_as_lost() -> None:
    assert is_lost(judged())
    assert not is_lost(judged(caught=False)), "stage 2 would not have caught it either"
    assert not is_lost(judged(escalated=True))
    assert not is_lost(judged(unsafe=True))


async def test_the_search_keeps_to_its_queries_and_climbs_down() -> None:
    asked: list[str] = []

    async def stubborn(text: str) -> Judged:
        asked.append(text)
        return judged(escalated=True)

    assert not await wins(TEXT, stubborn, Random(0), 60)
    assert len(asked) == 60

    async def weak(text: str) -> Judged:
        return judged(escalated="library" not in text)

    assert await wins(TEXT, weak, Random(0), 500)
    assert move(TEXT, Random(3)) == move(TEXT, Random(3))


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ROWS: list[dict[str, object]] = [
    *({"text": f"a bad idea number {number}", "unsafe": 1} for number in range(6)),
    *({"text": f"a hidden idea number {number}", "unsafe": 1} for number in range(4)),
    *({"text": f"a fine idea number {number}", "unsafe": 0} for number in range(5)),
    {"text": "nobody knows", "unsafe": None},
]


async def test_the_loss_is_what_stage_2_would_have_caught_and_never_saw(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", ROWS)
    unsafe, harmless = read_sample(path, 100)
    assert (len(unsafe), len(harmless)) == (10, 5)
    stage2 = FakeStage("hazard", words={"bad": 5.0, "hidden": 5.0})
    pipeline = fake_pipeline(FakeStage(words={"bad": 1.0}), stage2, policies=[fake_policy()])
    ticks: list[None] = []
    report = await measure(path, unsafe, harmless, pipeline, queries=5, searched=10, on_row=lambda: ticks.append(None))
    await pipeline.close()
    plain = report["transformations"][0]
    assert (plain["name"], plain["caught_by_stage2"], plain["lost"]) == ("none", 10, 4)
    assert plain["loss"]["value"] == pytest.approx(0.4)
    assert plain["recall"] == pytest.approx(0.6)
    assert plain["harmless_escalated"] == report["harmless_escalated"] == 0.0
    by_name = {row["name"]: row for row in report["transformations"]}
    assert len(by_name) == 1 + len(TRANSFORMATIONS) >= 14
    assert by_name["base64"]["lost"] == 0, "a payload is escalated whatever stage 1 says of it"
    assert by_name["base64"]["harmless_escalated"] == 1.0
    disguised = report["transformations"][1:]
    assert report["all_transformations"]["lost"] == sum(row["lost"] for row in disguised)
    assert report["search"]["caught_by_stage2"] == 10
    assert report["search"]["lost"] >= 3
    assert len(ticks) == steps(unsafe, harmless, 10)


async def test_a_hazard_that_blocks_is_caught_by_stage_2_too(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        *({"text": f"hate and number {number}", "unsafe": 1} for number in range(3)),
        *({"text": f"privacy and number {number}", "unsafe": 1} for number in range(2)),
        {"text": "a fine idea", "unsafe": 0},
    ]
    path = write(tmp_path / "set.jsonl", rows)
    policy = fake_policy('[hazards.hate]\naction = "BLOCK"\n[hazards.privacy]\naction = "REVIEW"\n')
    pipeline = fake_pipeline(FakeStage(label_words=False), policies=[policy])
    report = await measure(path, *read_sample(path), pipeline, disguises={}, queries=3, searched=10)
    await pipeline.close()
    assert (report["transformations"][0]["caught_by_stage2"], report["transformations"][0]["lost"]) == (3, 3)
    assert report["search"]["caught_by_stage2"] == 3
    assert report["search"]["lost"] > 0


def test_a_limit_draws_rows_and_keeps_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", ROWS)
    unsafe = [row["text"] for row in ROWS if row["unsafe"] == 1]
    draws = {tuple(row.text for row in read_sample(path, 3, seed)[0]) for seed in range(20)}
    assert len(draws) > 5, "not the first rows each time"
    for draw in draws:
        assert len(draw) == 3
        assert list(draw) == sorted(draw, key=unsafe.index), "as they stand in the file"
    assert read_sample(path, 3, 1) == read_sample(path, 3, 1)
    everything = [row.text for row in read_sample(path, 6)[1]]
    assert everything == [row["text"] for row in ROWS if row["unsafe"] == 0]


async def test_without_a_stage_2_there_is_nothing_to_measure_against(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", ROWS)
    pipeline = fake_pipeline(alone=True)
    with pytest.raises(UnsupportedError):
        await measure(path, *read_sample(path, 2), pipeline)
    await pipeline.close()


async def test_a_row_that_cannot_be_judged_is_no_zero(tmp_path: Path) -> None:
    path = write(tmp_path / "set.jsonl", ROWS)
    pipeline = fake_pipeline(stage2=FakeStage("hazard", fail=lambda windows: RuntimeError("no")))
    with pytest.raises(EvaluationError):
        await measure(path, *read_sample(path, 2), pipeline)
    await pipeline.close()


@pytest.mark.parametrize(
    "content", ["", '{"text": "a", "unsafe": 1}\n', '{"text": "a", "unsafe": 7}\n', "no json\n", '{"unsafe": 1}\n']
)
def test_a_file_that_will_not_do_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=r"set\.jsonl"):
        read_sample(path, 10)


@pytest.mark.usefixtures("fakes")
def test_the_command_prints_and_writes_the_report(cascade: Callable[..., Done], tmp_path: Path) -> None:  # noqa: F811
    path = write(tmp_path / "set.jsonl", ROWS)
    arguments = ("bench", "evasion", path, "--limit", 2, "--searched", 1, "--queries", 2)
    done = cascade(*arguments, "--json", "--out", "report.json")
    assert done.code == 0, done.err
    assert done.json() == json.loads((tmp_path / "report.json").read_text())
    assert done.json()["rows"] == {"unsafe": 2, "harmless": 2}
    table = cascade(*arguments)
    assert table.code == 0
    assert "homoglyphs" in table.out
    only = cascade(*arguments, "--disguise", "hex", "--disguise", "buried", "--json").json()
    assert [row["name"] for row in only["transformations"]] == ["none", "hex", "buried"]
    assert "no disguise is called 'mirror'" in cascade(*arguments, "--disguise", "mirror").err
    assert cascade("bench", "evasion", "missing.jsonl").code == 2
    assert cascade("bench", "evasion", path, "--stage2", "none").code == 1
