"""The table of analogues: every model is measured as the only stage, by what it can say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import FakeStage, fake_pipeline
from training import table


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"id": str(number), "lang": "en"} | row) for number, row in enumerate(rows)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Both classes, harmless alone, unsafe alone with AILuminate's hazards."""
    folder = tmp_path / "eval"
    both = [("calm", 0), ("bad", 0), ("terrible", 1), ("quiet", 1)]
    human = ["human_annotation=True"]
    rows = [{"text": word, "unsafe": unsafe, "labels": human * (word != "bad")} for word, unsafe in both]
    write(folder, "chats", rows)
    write(folder, "harmless", [{"text": word, "unsafe": 0} for word in ("calm", "bad", "bad", "mild")])
    hazards = [("terrible hate", "hte"), ("hate", "hte"), ("terrible privacy", "vcr")]
    write(folder, "hazards", [{"text": text, "unsafe": 1, "labels": [label]} for text, label in hazards])
    return folder


def test_each_model_is_measured_alone(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {
        "plain": FakeStage("tinysafe"),
        "names": FakeStage("hazard", judges=False),
        "names too": FakeStage("hazard", label_words=False),
    }

    def build_fake(stage1_spec: str, stage2_spec: str | None) -> Any:
        return fake_pipeline(stages[stage1_spec], alone=stage2_spec is None)

    monkeypatch.setattr(table, "build_pipeline", build_fake)
    out = tmp_path / "out"
    for name in table.BASES:  # as if trained before
        (out / name).mkdir(parents=True)
        (out / name / "CARD.md").touch()
        stages[str(out / name / "model")] = FakeStage("tinysafe", words={})
    models = [word for label in ("plain", "names") for word in ("--model", label)] + ["--model", "other=names too"]
    assert table.main(["--data", str(sets), "--eval", str(sets), "--out", str(out), *models]) == 0
    found = json.loads((out / "table.json").read_text())["models"]
    assert list(found) == [*table.BASES, "plain", "names", "other"]
    chats = found["plain"]["sets"]["chats"]
    assert (chats["all rows"]["f1"]["value"], chats["human_annotation=True"]["f1"]["value"]) == (0.5, 2 / 3)
    assert found["plain"]["sets"]["harmless"]["all rows"]["fpr"]["value"] == 0.5
    assert "hazards" not in found["plain"]["sets"]["hazards"]
    assert found["names"]["sets"]["hazards"]["hazards"]["macro_f1"]["value"] == 0.5
    assert list(found["names"]["sets"]["chats"]) == []
    assert found["tinysafe-v1"]["sets"]["hazards"]["all rows"]["recall"]["value"] == 0
    lines = (out / "table.md").read_text().splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[-1].count("|")
    assert "chats (human_annotation=True) f1" in lines[0]
    assert "hazards macro_f1" in lines[0]
    assert next(line for line in lines if line.startswith("| plain")).split("|")[2].strip() == "0.500"
    assert next(line for line in lines if line.startswith("| names")).split("|")[2].strip() == "-"
