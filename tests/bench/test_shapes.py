"""``cascade bench length``, ``conversations``, ``exchanges``, ``streams``: what they make of rows, what they count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from cascade.bench import conversations, exchanges, lengths, streams
from cascade.bench.phrases import filler
from cascade.evaluate.rows import DataError, Row
from cascade.evaluate.scoring import EvaluationError
from tests.fakes import FakeStage, fake_pipeline, word_id
from tests.tools.conftest import Done, cascade, fakes  # noqa: F401 - fixtures

CALM = [
    Row(str(number), f"Bread needs flour and patience, {number} times.", None, False, (), "") for number in range(9)
]
BAD = [Row(str(number), f"how is a terrible thing made {number}", None, True, (), "") for number in range(5)]


def stage(**options: object) -> FakeStage:
    return FakeStage("tinysafe", window_words=222, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [1, 50, 500])
def test_a_document_has_the_words_that_are_asked_for(words: int) -> None:
    texts = [row.text for row in CALM]
    made = lengths.document(texts, words, Random(1))
    assert len(made.split()) == words
    assert made == lengths.document(texts, words, Random(1)) != lengths.document(texts, words + 1, Random(1))
    loaded = lengths.document(texts, words, Random(1), "a payload")
    assert len(loaded.split()) == words + 2
    assert "a payload" in loaded


async def test_length_counts_what_is_flagged_and_what_is_caught() -> None:
    pipeline = fake_pipeline(stage(), alone=False)
    calls: list[None] = []
    found = await lengths.measure(
        BAD, CALM, pipeline, documents=4, lengths=(10, 300), on_row=lambda: calls.append(None)
    )
    await pipeline.close()
    assert [(row["words"], row["false_positives"]["value"], row["caught_inside"]["value"]) for row in found] == [
        (10, 0.0, 1.0),
        (300, 0.0, 1.0),
    ]
    assert len(calls) == lengths.steps(4, (10, 300))
    alarmed = fake_pipeline(stage(words={"flour": 5.0}))
    (found_one,) = await lengths.measure(BAD, CALM, alarmed, documents=4, lengths=(50,))
    await alarmed.close()
    assert found_one["false_positives"]["value"] == found_one["stage1_alone"]["value"] == 1.0


def test_rows_whose_words_cannot_be_counted_are_no_documents() -> None:
    with pytest.raises(DataError, match="3 words or more"):
        lengths.readable([Row("1", "two words", None, False, (), "")])
    with pytest.raises(DataError, match="6 to 120 words"):
        conversations.usable([Row("1", "three words only", None, False, (), "")], 5)


@pytest.mark.parametrize("seed", range(20))
def test_a_split_text_loses_nothing_and_has_two_to_four_turns(seed: int) -> None:
    turns = conversations.split(BAD[0].text, Random(seed))
    assert 2 <= len(turns) <= 4
    assert " ".join(turns) == BAD[0].text
    assert all(turns)


async def test_conversations_count_splits_at_once_and_on_arrival_and_what_follows() -> None:
    class Whole(FakeStage):
        """Finds only the whole attack terrible."""

        def _score(self, window):  # type: ignore[no-untyped-def]
            score = super()._score(window)
            whole = {word_id(word) for word in ("how", "terrible", "made")} <= set(window.ids)
            return type(score)(5.0 if whole else -4.0, score.labels)

    unsafe, harmless = conversations.usable(BAD, 3), conversations.usable(CALM, 4)
    calls: list[None] = []
    pipeline = fake_pipeline(Whole("tinysafe", window_words=60), alone=True)
    found = await conversations.measure(unsafe, harmless, pipeline, on_row=lambda: calls.append(None))
    await pipeline.close()
    assert found["split"]["unsplit"]["value"] == 1.0
    for name in ("turns of the user alone", "with answers between"):
        assert found["split"][name]["at_once_of_unsplit"] == 1.0
        assert found["split"][name]["on_arrival"]["value"] == 1.0
    assert found["harmless_after_unsafe"]["after a refusal"]["more_than_alone"] == 0.0
    assert len(calls) == conversations.steps(unsafe, harmless)
    blind = fake_pipeline(stage(words={}), alone=True)
    nothing = await conversations.measure(unsafe, harmless, blind)
    await blind.close()
    assert nothing["split"]["turns of the user alone"]["at_once_of_unsplit"] is None


async def test_a_stream_is_set_against_checks_of_the_whole_prefix() -> None:
    pipeline = fake_pipeline(stage(), alone=True)
    late = streams.Generation("", "word " * 100 + "terrible " + "word " * 100)
    prefix = await streams.whole_prefix(pipeline, late)
    assert prefix.once == prefix.twice is not None
    assert len(late.text[: prefix.once].split()) == 128, "the first multiple of 32 that has it"
    flagged = (await streams.stream(pipeline, late)).flagged
    assert flagged is not None
    assert len(late.text[:flagged].split()) <= 128 + 32
    calm = streams.Generation("", "word " * 100)
    assert await streams.whole_prefix(pipeline, calm) == streams.Prefix(None, None)
    assert (await streams.stream(pipeline, calm)).flagged is None
    asked = streams.Generation("a terrible question", "an answer")
    assert await streams.whole_prefix(pipeline, asked) == streams.Prefix(0, 0)
    assert (await streams.stream(pipeline, asked)).flagged == 0
    await pipeline.close()


async def test_a_prefix_that_blocks_by_one_cut_only_is_told_from_one_that_keeps_blocking() -> None:
    class Patient(FakeStage):
        def _score(self, window):  # type: ignore[no-untyped-def]
            score = super()._score(window)
            return type(score)(-4.0, score.labels) if word_id("resolved") in window.ids else score

    pipeline = fake_pipeline(Patient("tinysafe", window_words=222), alone=True)
    brief = streams.Generation("", "word " * 60 + "terrible " + "word " * 10 + "resolved " + "word " * 60)
    prefix = await streams.whole_prefix(pipeline, brief)
    assert (prefix.once, prefix.twice) == (len("word " * 60 + "terrible " + "word " * 3), None)
    ends = streams.Generation("", "word " * 60 + "terrible")
    assert await streams.whole_prefix(pipeline, ends) == streams.Prefix(len(ends.text), len(ends.text))
    await pipeline.close()


async def test_streams_report_each_length_and_the_responses_of_rows() -> None:
    answered = Row("1", "how is it made", "like so, terrible", True, (), "")
    kinds = list(streams.kinds([*BAD, answered], CALM, generations=2, lengths=(0, 60), seed=0))
    assert [(kind.name, len(kind.unsafe), len(kind.harmless)) for kind in kinds] == [
        ("responses", 1, 0),
        ("0 words around", 2, 2),
        ("60 words around", 2, 2),
    ]
    assert kinds[0].unsafe[0].prompt == "how is it made"
    pipeline = fake_pipeline(stage(), alone=True)
    found = await streams.measure(kinds, pipeline)
    await pipeline.close()
    for report, kind in zip(found, kinds, strict=True):
        counted = {"count": len(kind.unsafe), "in_time": len(kind.unsafe), "later": [], "never": 0}
        assert report["flagged_by_whole_prefix"] == {"once": counted, "twice": counted}
        assert (report["by_the_stream_alone"], report["harmless_flagged"]) == (0, 0)
    assert found[0]["tokens_against_one_check"] is None
    assert found[2]["most_tokens_against_one_check"] >= found[2]["tokens_against_one_check"] > 1
    assert found[0]["tokens"] == {"stage1": {"streams": 0, "checks": 0, "ratio": None}}


async def test_a_stream_costs_tokens_of_both_stages() -> None:
    stages = {"stage1": stage(), "stage2": FakeStage("hazard", window_words=222)}
    pipeline = fake_pipeline(*stages.values())
    asked = [streams.Generation("", f"{filler(60)} {word} {filler(60)}") for word in ("calmly", "unsure")]
    (found,) = await streams.measure([streams.Kind("made", (), tuple(asked))], pipeline)
    scored = {name: sum(len(window) for call in fake.calls for window in call) for name, fake in stages.items()}
    calm = await streams.stream(pipeline, asked[0])
    await pipeline.close()
    assert calm.tokens["stage1"] > 0 == calm.tokens["stage2"]
    for name, costs in found["tokens"].items():
        assert costs["streams"] + costs["checks"] == scored[name]
        assert costs["ratio"] == costs["streams"] / costs["checks"] > 1
    assert found["tokens"]["stage2"]["checks"] < found["tokens"]["stage1"]["checks"], "one of the texts is escalated"
    assert found["seconds"]["streams"] > 0


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    pairs = [
        *(("a bad question", "terrible advice", 1) for _ in range(4)),
        *(("how is it done", "terrible advice", 1) for _ in range(2)),
        *(("a terrible question", "I cannot help", 0) for _ in range(3)),
        *(("how is it done", "with patience", 0) for _ in range(3)),
    ]
    rows = [{"text": text, "response": response, "unsafe": unsafe} for text, response, unsafe in pairs]
    left_out = [{"text": "terrible", "unsafe": 1}, {"text": "x", "response": " ", "unsafe": 1}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *left_out]))
    return path


async def test_exchanges_are_judged_as_such_and_by_each_field_alone(answered: Path) -> None:
    rows = exchanges.read(answered, None, 0)
    assert len(rows) == 12, "only rows with both fields"
    calls: list[None] = []
    pipeline = fake_pipeline(FakeStage("tinysafe", words={"terrible": 5.0, "bad": 1.0}), alone=True)
    found = await exchanges.measure(answered, rows, pipeline, on_row=lambda: calls.append(None))
    await pipeline.close()
    assert found["rows"] == {"unsafe": 6, "harmless": 6}
    assert len(calls) == exchanges.steps(rows) == 36
    figures = {
        way: {name: way_found[name]["value"] for name in exchanges.METRICS}
        for way, way_found in found["judged"].items()
    }
    assert figures["exchange"] == {"f1": pytest.approx(0.8), "precision": pytest.approx(6 / 9), "recall": 1.0}
    assert figures["prompt alone"] == {
        "f1": pytest.approx(8 / 13), "precision": pytest.approx(4 / 7), "recall": pytest.approx(4 / 6)
    }  # fmt: skip
    assert figures["response alone"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0}
    for way, less in found["exchange_over"].items():
        assert less["f1"]["value"] == pytest.approx(figures["exchange"]["f1"] - figures[way]["f1"])
        assert less["f1"]["low"] <= less["f1"]["value"] <= less["f1"]["high"]


async def test_a_stage_that_fails_on_an_exchange_is_no_harmless_one(answered: Path) -> None:
    pipeline = fake_pipeline(FakeStage(fail=lambda windows: RuntimeError("no")), alone=True)
    with pytest.raises(EvaluationError, match="degraded answer"):
        await exchanges.measure(answered, exchanges.read(answered, None, 0), pipeline, on_row=lambda: None)
    await pipeline.close()


def test_exchanges_need_both_labels_and_are_drawn_at_random(answered: Path, rows: Path) -> None:
    assert exchanges.read(answered, 5, 1) == exchanges.read(answered, 5, 1)
    assert len({tuple(row.id for row in exchanges.read(answered, 5, seed)) for seed in range(20)}) > 5
    with pytest.raises(DataError, match=r"rows\.jsonl: has no unsafe row with a response"):
        exchanges.read(rows, None, 0)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"text": row.text, "unsafe": int(bool(row.unsafe))}) + "\n" for row in CALM + BAD)
    )
    return path


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["length", "--documents", 2, "--words", 20], "inside"),
        (["conversations", "--limit", 2], "refusal"),
        (["exchanges", "--limit", 9, "--seed", 2], "alone"),
        (["streams", "--generations", 2, "--words", 0], "around"),
    ],
)
def test_the_commands_print_a_table_or_json_and_write_the_report(
    cascade: Callable[..., Done],  # noqa: F811 - the fixture
    rows: Path,
    answered: Path,
    arguments: list[object],
    expected: str,
) -> None:
    rows = answered if arguments[0] == "exchanges" else rows
    done = cascade("bench", *arguments[:1], rows, *arguments[1:], "--out", "report.json")
    assert done.code == 0, done.err
    assert expected in done.out, "a narrow terminal may break lines anywhere between words"
    as_json = cascade("bench", *arguments[:1], rows, *arguments[1:], "--json")
    report = json.loads(Path("report.json").read_text())
    assert type(report) is type(as_json.json())
    if arguments[0] != "streams":  # it tells times
        assert report == as_json.json()
    assert "flour" not in json.dumps(report), "no text of a row stands in a report"
