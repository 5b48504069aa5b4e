"""Logs: two ways of writing a row, and everything that can be wrong with one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cascade.evaluate.rows import DataError
from cascade.tune.scores import ScoredRow, read_header, read_log, write_cache

MODELS = {"stage1": "tinysafe@1", "stage2": "hazard@2"}


def row(**changes: Any) -> dict[str, Any]:
    """A line of scores."""
    return {"id": "a", "unsafe": 1, "labels": ["privacy"], "lang": "en", "stage1": 0.4, "stage2": 0.9,
            "hazards": {"privacy": 0.8}, "models": MODELS} | changes  # fmt: skip


def answer(**changes: Any) -> dict[str, Any]:
    """A labelled answer, as ``cascade scan`` writes it."""
    stages = [
        {"name": "stage1", "model": "tinysafe", "revision": "1", "calibratedProbability": 0.4},
        {"name": "stage2", "model": "hazard", "revision": "2", "calibratedProbability": 0.9},
    ]
    result = {
        "stages": stages,
        "hazards": [{"slug": "privacy", "probability": 0.8}, {"slug": "hate", "threshold": 0.5}],
        "categories": [{"name": "violence", "probability": 0.1}],
        "route": {"triggers": ["views_disagree"]},
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "log.jsonl:2: not JSON"),
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
