"""Logs: two ways of writing a row, and everything that can be wrong with one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.evaluate.rows import DataError
from cascade.tune.sample import check_rows
from cascade.tune.scores import Loaded, ScoredRow, read, read_header, read_log, write_cache
from cascade.tune.wishes import Wish

MODELS = {"stage1": "tinysafe@1", "stage2": "hazard@2"}


LOADED = Loaded(
    MODELS,
    made={
        "files": {"stage1": "1" * 64, "stage2": "2" * 64},
        "calibrations": {"stage1": "3" * 64, "stage2": "4" * 64},
        "segments": "max",
        "reading": "5" * 64,
    },
    scoring={"stage1": "a1", "stage2": "b2"},
)


def row(**changes: Any) -> dict[str, Any]:
    """A line of scores."""
    return {"id": "a", "unsafe": 1, "labels": ["privacy"], "lang": "en", "stage1": 0.4, "stage2": 0.9,
            "hazards": {"privacy": 0.8}, "models": MODELS} | changes  # fmt: skip


def answer(**changes: Any) -> dict[str, Any]:
    """A labelled answer, as ``cascade scan`` writes it."""
    stages = [
        {"name": "stage1", "model": "tinysafe", "revision": "1", "calibratedProbability": 0.4, "scoring": "a1"},
        {"name": "stage2", "model": "hazard", "revision": "2", "calibratedProbability": 0.9, "scoring": "b2"},
    ]
    result = {
        "stages": stages,
        "hazards": [{"slug": "privacy", "probability": 0.8}, {"slug": "hate", "threshold": 0.5}],
        "categories": [{"name": "violence", "probability": 0.1}],
        "route": {"triggers": ["views_disagree"], "audited": True},
        "coverage": {"tokensTotal": "7"},
    }
    return {"id": "a", "text": "not kept", "unsafe": 1, "labels": ["privacy"], "result": result | changes}


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_both_ways_of_writing_say_the_same(tmp_path: Path) -> None:
    plain = row(lang="", tokens=7, stage1_labels={"violence": 0.1}, triggers=["views_disagree"])
    first, second = read_log(write(tmp_path / "log.jsonl", plain, answer()), MODELS)
    assert first == second
    assert (second.stage1, second.stage2, second.tokens, second.hazards) == (0.4, 0.9, 7, {"privacy": 0.8})
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "log.jsonl").read_bytes()))
    assert read_log(packed, MODELS) == [first, second]


def test_a_cache_reads_back_and_says_what_it_is_of(tmp_path: Path) -> None:
    rows = [ScoredRow("ü", None, ("x",), "de", 3, 0.1, 1.0, {"hate": 0.2}, {"hate": 0.0}, {"hate": 0.3}, ("t",))]
    path = tmp_path / "cache.jsonl"
    assert read_header(path) is None
    write_cache(path, {"models": MODELS, "data": "1"}, rows)
    assert read_header(path) == {"models": MODELS, "data": "1"}
    assert read_log(path, MODELS) == rows
    with pytest.raises(DataError, match="was scored by hazard@2 as stage2, but other@3 is loaded"):
        read_log(path, MODELS | {"stage2": "other@3"})
    assert read_header(write(tmp_path / "none.jsonl", row())) is None


def header(**changes: Any) -> dict[str, Any]:
    """The first line of a cache of the two rows that follow it."""
    return {"scored": {"data": "0" * 64, "rows": 2, "models": MODELS, **LOADED.made} | changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": LOADED.made["files"] | {"stage2": "0" * 64}}, "log.jsonl:1: these are scores of other files"),
        ({"calibrations": LOADED.made["calibrations"] | {"stage1": "0" * 64}}, "other calibrations: score the texts"),
        ({"calibrations": None}, "other calibrations"),
        ({"segments": "length_calibrated"}, r"another merge\.segments"),
        ({"reading": "0" * 64}, "another release"),
        ({"models": MODELS | {"stage1": "tinysafe@2"}}, "log.jsonl:1: was scored by tinysafe@2 as stage1"),
        ({"models": 3}, "does not say which model stage1 was"),
        ({"rows": 3}, "has 2 rows, not as many as its first line says"),
    ],
)
def test_scores_that_were_made_in_another_way_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    rows = [{key: value for key, value in row().items() if key != "models"}] * 2
    untold = header()
    del untold["scored"]["reading"]
    with pytest.raises(DataError, match="does not say how it was scored"):
        read(write(tmp_path / "log.jsonl", untold, *rows), LOADED)
    assert len(read(write(tmp_path / "log.jsonl", header(), *rows), LOADED).rows) == 2
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "log.jsonl", header(**change), *rows), LOADED)


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("digest", ["other", None])
def test_answers_that_were_made_in_another_way_are_refused(tmp_path: Path, stage: int, digest: str | None) -> None:
    """As by a model of the same name and revision with another calibration."""
    line = answer()
    assert read(write(tmp_path / "log.jsonl", line), LOADED).rows
    line["result"]["stages"][stage]["scoring"] = digest
    with pytest.raises(
        DataError, match=r"log\.jsonl:1: (tinysafe@1|hazard@2) scored it with other files, another cali"
    ):
        read(write(tmp_path / "log.jsonl", line), LOADED)


def test_of_answers_those_count_that_the_audit_drew(tmp_path: Path) -> None:
    """What else escalated is no random sample. A content that comes again is drawn again, and counts once."""

    def said(name: str, text: str, **changes: Any) -> dict[str, Any]:
        return answer(**changes) | {"id": name, "content": [{"field": "text", "hash": text, "salt": "s"}]}

    flagged = {"reason": "ROUTE_REASON_FLAGGED", "escalated": True, "audited": False}
    lines = [
        said("drawn", "1"),
        said("again", "1"),
        said("flagged", "2", route=flagged),
        said("drawn and flagged", "3", route=flagged | {"audited": True}),
        said("degraded", "4", degraded=True, stages=[]),
        said("not labelled, not drawn", "5", route=flagged) | {"unsafe": "not looked at"},
        answer() | {"id": "a turn", "content": [{"field": "conversation.turns[0].text", "hash": "7", "salt": "s"}]},
        said("a generation", "6") | {"method": "cascade.v1.CascadeService/ModerateStream", "released_upto": 3},
        {"id": "refused", "method": "cascade.v1.CascadeService/Check", "code": "INVALID_ARGUMENT"},
    ]
    log = read(write(tmp_path / "log.jsonl", *lines), LOADED)
    assert [found.id for found in log.rows] == ["drawn", "drawn and flagged"]
    assert "of 7 answers in the log the random audit drew 2 different contents" in log.drawn
    assert "earlier release" not in log.drawn
    none = read(write(tmp_path / "log.jsonl", *[said("flagged", "2", route=flagged)] * 2), LOADED)
    told = "at least 58 texts for escalation 0.1; of 2 answers in the log the random audit drew 0 different contents"
    with pytest.raises(DataError, match=told):
        check_rows(none.rows, (Wish("escalation", 0.1),), 0.05, 0, none.drawn)
    before = answer(route={"escalated": True})
    for stage in before["result"]["stages"]:
        del stage["scoring"]
    old = read(write(tmp_path / "log.jsonl", before), LOADED)
    assert "1 answers are of an earlier release" in old.drawn
    with pytest.raises(DataError, match="tune from scores"):
        read(write(tmp_path / "log.jsonl", said("drawn", "1")), replace(LOADED, separable=False))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(st.characters(codec=None)), inside, max_size=3)
    ),
    max_leaves=6,
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree of JSON."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from places(value, (*path, key))


LINES = [
    row(lang="en", tokens=3, stage1_labels={"violence": 0.1}, stage1_hazards={"hate": 0.1}, triggers=["t"]),
    answer() | {"lang": "de", "content": [{"field": "text", "hash": "1", "salt": "2"}]},
    header(),
]


@given(data=st.data())
def test_any_value_in_any_key_gives_rows_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    line = deepcopy(data.draw(st.sampled_from(LINES)))
    *path, last = data.draw(st.sampled_from(list(places(line))))
    inside = line
    for key in path:
        inside = inside[key]
    inside[last] = data.draw(ANY_JSON)
    try:
        rows = read(write(tmp_path_factory.getbasetemp() / "any.jsonl", row(), line), LOADED).rows
    except DataError as error:
        assert str(error).startswith("any.jsonl")  # noqa: PT017 - most values are refused, some are not
    else:
        assert json.dumps([asdict(found) for found in rows], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "log.jsonl:2: not JSON"),
        ('{"id": ' + "[" * 100_000, "log.jsonl:2: not JSON"),
        ({"scored": 3}, "log.jsonl:2: 'scored' must be an object"),
        (row(tokens="many"), "log.jsonl:2: 'tokens' must be a whole number from 0 on"),
        (row(tokens=None), "'tokens' must be a whole number"),
        (row(tokens=float("inf")), "'tokens' must be a whole number"),
        (row(triggers=5), "'triggers' must be a list of strings"),
        (row(triggers="abc"), "'triggers' must be a list of strings"),
        (row(stage1=10**400), "outside of 0 to 1"),
        (row(lang="\ud800"), "'lang' must be a string"),
        (answer(coverage=[]), "'coverage' must be an object"),
        (answer(coverage={"tokensTotal": "many"}), "'tokensTotal' must be a whole number"),
        (answer(route=3), "'route' must be an object"),
        (answer(route={"audited": 1}), "'audited' must be true or false"),
        (answer(hazards=[{"slug": ["privacy"], "probability": 0.1}]), "'slug' must be a string"),
        ("[1]", "no JSON object"),
        (row(stage1=float("nan")), "the score of stage1 is no number"),
        (row(stage2=None), "the score of stage2 is no number"),
        (row(stage1=True), "the score of stage1 is no number"),
        (row(stage1=-2.5), "outside of 0 to 1"),
        (row(hazards={"privacy": "high"}), "the score of privacy is no number"),
        (row(hazards={"boredom": 0.1}), "'boredom' is no hazard"),
        (row(hazards=[0.1]), "must be an object"),
        (row(unsafe="yes"), "'unsafe' must be 1, 0 or null"),
        (row(labels="privacy"), "'labels' must be a list"),
        (row(models={"stage1": "tinysafe@1", "stage2": "hazard@9"}), "was scored by hazard@9"),
        (row(models={}), "does not say which model stage1 was"),
        (answer(stages=answer()["result"]["stages"][:1]), "stage2 did not answer"),
        (answer(stages="none"), "'stages' must be a list"),
        (row(result=3), "no answer"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_log(write(tmp_path / "log.jsonl", row(), line), MODELS)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_log_without_rows(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"has no rows|cannot be read"):
        read_log(path, MODELS)
