"""`make analogues`: each seed's recipe trains on a tiny backbone, judges alone, and `cascade eval` takes it twice.

A minute and a half of CPU in all, so that `make test` leaves it out; tests/training/test_systems.py has the trainings.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.backbones import (
    TEXTS,
    deberta_backbone,
    decoder_backbone,
    is_unsafe,
    unigram_backbone,
    word_piece_backbone,
    write_set,
)
from tests.training.test_table import write
from training import table
from training.recipe import load_recipe

CASCADE = [sys.executable, "-m", "cascade.cli"]

BACKBONES = {
    "tinysafe-v1": word_piece_backbone,
    "tinysafe-v2": deberta_backbone,
    "hazard-legacy9": unigram_backbone,
    "constitutional": decoder_backbone,
    "duoguard": decoder_backbone,
}


def small(name: str, folder: Path) -> Path:
    """An included recipe on one tiny set, with rates that a tiny network learns with."""
    full = load_recipe(name).model_dump(exclude_none=True)
    full["data"] |= {"max_tokens": 48, "validation": 0.2, "calibration": 0.2}
    del full["data"]["sources"]
    full["train"] |= {"batch_size": 8, "learning_rate": 5e-3, "accumulate": 1}
    for key in ("draws", "validate_every"):
        full["train"].pop(key, None)
    full["train"]["epochs"] = 1.0
    lines = [f"{key} = {json.dumps(value)}" for key, value in full.items() if not isinstance(value, dict)]
    for section, values in full.items():
        if isinstance(values, dict):
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    lines += ["[[data.sources]]", 'name = "prompts"', 'sets = ["jailjudge_id"]']
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", list(BACKBONES))
def test_an_analogue_is_trained_tabled_and_evaluated_as_either_stage(tmp_path: Path, name: str) -> None:
    data, sets, out = tmp_path / "data", tmp_path / "eval", tmp_path / "out"
    write_set(data, "jailjudge_id", {0: ["SNA"], 1: ["S2"]})
    write(sets, "prompts", [{"text": t, "unsafe": is_unsafe(t), "labels": ["ncr"] * is_unsafe(t)} for t in TEXTS[::9]])
    base, recipe = BACKBONES[name](tmp_path / "base"), small(name, tmp_path)
    arguments = ["--data", data, "--eval", sets, "--out", out, "--recipe", recipe, "--base", f"{recipe}={base}"]
    command = [sys.executable, "-m", "training.table", *map(str, arguments), "--epochs", "8", "--max-rows", "150"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((out / "table.json").read_text())["models"].values()
    figures = found["sets"]["prompts"]
    if name == "hazard-legacy9":
        assert figures["hazards"]["macro_f1"]["value"] > 0.9
    else:
        assert figures["all rows"]["auroc"]["value"] > 0.9
    trained = (out / name / "CARD.md").stat().st_mtime_ns
    assert table.main([*map(str, arguments), "--limit", "3"]) == 0
    assert (out / name / "CARD.md").stat().st_mtime_ns == trained, "it was trained again"
    for parts in (["--stage1", out / name / "model"], ["--stage2", out / name / "model"]):
        report = tmp_path / "report"
        command = [*CASCADE, "eval", sets, "--out", report, *parts]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (cohort,) = json.loads((report / "report.json").read_text())["sets"][0]["cohorts"]
        if name != "hazard-legacy9":
            assert cohort["systems"][parts[0].removeprefix("--")]["auroc"]["value"] > 0.9
