from collections.abc import Callable
from typing import Any

import pytest

from stages.errors import ModelError, StageError
from tests.fakes import FakeStage, fake_pipeline
from tests.tools.conftest import Done

Run = Callable[..., Done]

BUILD = "cascade.build.build_pipeline"


def test_every_stage_answers(cascade: Run, fakes: None) -> None:
    done = cascade("check")
    assert done.code == 0
    assert all(words in done.out for words in ("stage1", "fake-tinysafe@r1", "stage2", "fake-hazard@r1", "cascade"))
    report = cascade("check", "--json").json()
    assert report["ok"] is True
    assert [step["name"] for step in report["steps"]] == ["load", "stage1", "stage2", "cascade"]
    alone = cascade("check", "--stage2", "none", "--json").json()
    assert [step["name"] for step in alone["steps"]] == ["load", "stage1", "cascade"]


def test_a_stage_that_fails_is_named(cascade: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FakeStage("hazard", fail=lambda windows: StageError("out of order"))
    monkeypatch.setattr(BUILD, lambda **_: fake_pipeline(stage2=broken))
    done = cascade("check", "--json")
    assert done.code == 1
    assert done.json()["ok"] is False
    assert [(step["name"], step["ok"]) for step in done.json()["steps"]] == [
        ("load", True),
        ("stage1", True),
        ("stage2", False),
    ]
    assert "out of order" in done.json()["steps"][-1]["detail"]
    assert "FAILED" in cascade("check").out


def test_a_model_that_does_not_load_is_told(cascade: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(**_: Any) -> Any:
        raise ModelError("model.onnx is missing: get it [here]")

    monkeypatch.setattr(BUILD, build)
    done = cascade("check")
    assert done.code == 1
    assert "model.onnx is missing: get it [here]" in done.out
