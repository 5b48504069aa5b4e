"""Two processes with one batch each take the steps that one process takes with two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.training.backbones import word_piece_backbone, write_set

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
import torch
from training.data.mix import build_splits
from training import loop
from training.loop import Trainer
from training.recipe import Recipe
from training.systems import build_system

here, out, accumulate = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
recipe = Recipe.model_validate({
    "name": "tiny", "system": "tinysafe", "base": "tiny",
    "data": {"max_tokens": 40, "validation": 0.2, "calibration": 0.1,
             "sources": [{"name": "toxicchat", "sets": ["jailjudge_id"]}]},
    "train": {"draws": 256, "batch_size": 8, "accumulate": accumulate, "learning_rate": 1e-3,
              "validate_every": 128, "precision": "fp32"},
    "regularise": {"ema_decay": 0.9, "dropout": 0.0, "dropout_samples": 1, "hidden_dropout": 0.0},
})
torch.manual_seed(1)
system = build_system(recipe, here / "base")
splits = build_splits(here / "data", recipe.data, recipe.system)
loop.CHECKPOINT_SECONDS = -1.0
trainer = Trainer(recipe, system.network, system.tokenizer, system.pad_id, splits, here / out)
trainer.run()
assert trainer.step == trainer.steps == 16, trainer.step
resumed = Trainer(recipe, system.network, system.tokenizer, system.pad_id, splits, here / out)
resumed._load()
assert (resumed.step, resumed.best) == (16, trainer.best), resumed.step
"""
RECIPE = """
name = "tiny"
system = "tinysafe"
base = "tiny"
[data]
max_tokens = 40
validation = 0.2
calibration = 0.1
sources = [{ name = "toxicchat", sets = ["jailjudge_id"] }]
[train]
draws = 960
batch_size = 8
learning_rate = 5e-3
head_learning_rate = 1e-2
validate_every = 960
[regularise]
ema_decay = 0.9
hidden_dropout = 0.0
dropout_samples = 2
"""  # learned well enough that no logit lies where int8 turns its sign
# What `accelerate launch` starts for several GPUs; on a CPU it would want MPI.
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_step_as_one_with_twice_the_batches(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "jailjudge_id", {0: ["SNA"], 1: ["S2"]})
    word_piece_backbone(tmp_path / "base")
    program = tmp_path / "program.py"
    program.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}")
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for out, launch, accumulate in (("one", [], 2), ("two", LAUNCH, 1)):
        command = [sys.executable, *launch, str(program), str(tmp_path), out, str(accumulate)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / out / "best.safetensors") for out in ("one", "two"))
    assert one.keys() == two.keys()
    differences = np.concatenate([np.abs(value - two[name]).ravel() for name, value in one.items()])
    assert differences.mean() < 1e-6  # sums in another order; Adam makes whole steps of rounding where gradients vanish
    logs = [(tmp_path / out / "log.jsonl").read_text().splitlines() for out in ("one", "two")]
    assert [json.loads(line)["step"] for line in logs[0]] == [json.loads(line)["step"] for line in logs[1]]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_in_two_processes_trains_one_model(tmp_path: Path) -> None:
    write_set(tmp_path / "data", "jailjudge_id", {0: ["SNA"], 1: ["S2"]})
    base = word_piece_backbone(tmp_path / "base")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    out = tmp_path / "out"
    command = [sys.executable, *LAUNCH, "-m", "cascade.cli", "train", recipe, "--data", tmp_path / "data"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*map(str, command), "--out", str(out), "--base", str(base)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(f"{out / 'model'}: tiny@") == 1
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    validated = [(entry["step"], entry["auroc"]) for entry in log if entry["kind"] == "validation"]
    assert [step for step, _ in validated] == [60]  # 960 texts by eight in each of two processes
    assert validated[0][1] > 0.95
