"""From a recipe and rows to a served model, by the real commands."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest

from cascade.v1 import cascade_service_pb2_grpc, check_pb2
from stages.encoder import calibration_of
from stages.manifest import Manifest
from stages.registry import load_stage
from tests.training.backbones import TEXTS, is_unsafe, unigram_backbone, word_piece_backbone, write_set

CASCADE = [sys.executable, "-m", "cascade.cli"]
RECIPE = """
name = "tiny"
system = "{system}"
base = "tiny"
[data]
max_tokens = 40
validation = 0.2
calibration = 0.2
[[data.sources]]
name = "toxicchat"
share = 1
sets = ["jailjudge_id"]
[train]
draws = {draws}
batch_size = 16
learning_rate = {rate}
head_learning_rate = 1e-2
validate_every = 480
patience = 9
[regularise]
fgm_epsilon = {fgm}
ema_decay = 0.9
hidden_dropout = 0.0
dropout_samples = 2
{lora}
"""
LORA = """
[lora]
r = 4
alpha = 8
targets = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
"""


def run(*arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*CASCADE, *map(str, arguments)], capture_output=True, text=True, timeout=110)
    assert not check or done.returncode == 0, done.stderr
    return done


@contextmanager
def serving(*arguments: object):
    """A server by the real command; yields a stub."""
    command = [*CASCADE, "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("ready grpc="), process.stderr.read()
        with grpc.insecure_channel(line.split()[1].removeprefix("grpc=")) as channel:
            yield cascade_service_pb2_grpc.CascadeServiceStub(channel)
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_set(folder, "jailjudge_id", {0: ["SNA"], 1: ["S2"]})
    return folder


@pytest.mark.slow
@pytest.mark.timeout(300)  # commands one after the other: on a busy machine more than two minutes
def test_a_tinysafe_recipe_trains_exports_and_serves(tmp_path: Path, data: Path):
    base = word_piece_backbone(tmp_path / "base")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(system="tinysafe", draws=1600, rate="5e-3", fgm=0.1, lora=""))
    out = tmp_path / "out"
    run("train", recipe, "--data", data, "--out", out, "--base", base)
    manifest = Manifest.load(out / "model")
    manifest.verify(out / "model")
    assert "jailjudge_id" in (out / "CARD.md").read_text()
    kinds = [json.loads(line)["kind"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"train", "validation"} <= set(kinds)

    again = tmp_path / "again"
    run("export", out, "--data", data, "--out", again, "--base", base)
    exported = Manifest.load(again)
    assert exported.files == manifest.files

    unfitted = exported.calibration.model_copy(update={"length_penalty": 9.0, "label_length_penalties": []})
    exported.model_copy(update={"calibration": unfitted}).save(again)
    command = [sys.executable, "-m", "training.length", "--data", data, "--recipe", recipe, again]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=110)
    assert Manifest.load(again) == exported, "what training fits is fitted again"

    told = tmp_path / "told"
    command = [sys.executable, "-m", "training.calibration_report", "--data", data, "--recipe", recipe, "--out", told]
    subprocess.run([*map(str, command), str(again)], check=True, capture_output=True, timeout=110)
    assert Manifest.load(again) == exported, "the model stays as it is"
    (verdict, *_) = json.loads((told / "calibration.json").read_text())["heads"]
    assert verdict["quality"]["ece_after"] == exported.metrics["calibration.unsafe.ece_after"]
    assert "<svg" in (told / "calibration.html").read_text()
    assert (out / "model-calibration.html").exists()
    assert "## Calibration" in (out / "CARD.md").read_text()

    exact = tmp_path / "float32"
    run("export", out, "--data", data, "--out", exact, "--base", base, "--precision", "float32")
    unquantised = Manifest.load(exact)
    assert (unquantised.quantisation, unquantised.info().runtime) == ("float32", "onnxruntime-float32")
    assert unquantised.revision != manifest.revision
    assert unquantised.calibration != manifest.calibration
    assert unquantised.golden != manifest.golden
    assert not any(name.startswith("int8") for name in unquantised.metrics)
    assert "float32" in (exact / "README.md").read_text()
    assert "int8" in (out / "CARD.md").read_text(), "the run's own card speaks of its own model"
    with serving("--stage1", exact, "--stage2", exact) as stub:
        served = stub.Check(check_pb2.CheckRequest(text=TEXTS[0])).stages[0]
    assert served.revision == unquantised.revision

    if find_spec("openvino") is not None:
        fit = [sys.executable, "-m", "training.runtimes", "--data", data, "--recipe", recipe, "--runtime", "openvino"]
        done = subprocess.run([*map(str, fit), str(again)], check=True, capture_output=True, text=True, timeout=110)
        fitted = Manifest.load(again)
        ((name, own),) = fitted.runtimes.items()
        assert done.stdout.splitlines()[0] == name
        assert fitted.model_copy(update={"runtimes": {}}) == exported
        assert own.calibration != exported.calibration
        assert own.golden != exported.golden
        assert [golden.text for golden in own.golden] == [golden.text for golden in exported.golden]
        stage = load_stage(again, runtime="openvino")
        assert stage.info.runtime == name
        assert stage.calibration == calibration_of(own.calibration)
        assert load_stage(exact, runtime="openvino").info.runtime in ("openvino-float32", "openvino-bf16")

    with serving("--stage1", out / "model", "--stage2", "none") as stub:
        answers = {text: stub.Check(check_pb2.CheckRequest(text=text)) for text in TEXTS[::7]}
    unsafe = [a.unsafe_probability for text, a in answers.items() if is_unsafe(text)]
    safe = [a.unsafe_probability for text, a in answers.items() if not is_unsafe(text)]
    assert min(unsafe) > max(safe)
    assert {a.stages[0].revision for a in answers.values()} == {manifest.revision}


@pytest.mark.slow
@pytest.mark.timeout(300)  # commands one after the other: on a busy machine more than two minutes
def test_a_run_starts_from_another_and_learns_from_a_served_teacher(tmp_path: Path, data: Path):
    base = word_piece_backbone(tmp_path / "base")
    recipe, taught = tmp_path / "tiny.toml", tmp_path / "taught.toml"
    recipe.write_text(RECIPE.format(system="tinysafe", draws=1600, rate="5e-3", fgm=0, lora=""))
    distil = "[distil]\nteachers = { teacher = 1.0 }\n"
    taught.write_text(RECIPE.format(system="tinysafe", draws=480, rate="1e-3", fgm=0, lora=distil))
    first, out = tmp_path / "first", tmp_path / "out"
    run("train", recipe, "--data", data, "--out", first, "--base", base)
    command = ["train", taught, "--data", data, "--out", out, "--base", base, "--start", first]

    refused = run(*command, check=False)
    assert refused.returncode == 1
    assert "--teacher teacher=MODEL" in refused.stderr

    run(*command, "--teacher", f"teacher={first / 'model'}")
    said = (out / "teachers.jsonl").read_text()
    manifest = Manifest.load(first / "model")
    assert json.loads(said.splitlines()[0]) == {"teachers": [f"{manifest.name}@{manifest.revision}"]}
    assert len(said.splitlines()) > 50
    losses = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert all(entry["teachers"] > 0 for entry in losses if entry["kind"] == "train")
    validated = [entry["auroc"] for entry in losses if entry["kind"] == "validation"]
    assert validated[0] > 0.95  # where the first run had come to
    whence = f"started from a run of tiny, taught by 1 of {manifest.name}@{manifest.revision}"
    assert Manifest.load(out / "model").base.endswith(whence)


@pytest.mark.slow
@pytest.mark.timeout(300)  # commands one after the other: on a busy machine more than two minutes
@pytest.mark.parametrize("tune", ["adapter", "all"])
def test_a_hazard_recipe_trains_an_adapter_merges_it_and_names_the_hazard(tmp_path: Path, data: Path, tune: str):
    base = unigram_backbone(tmp_path / "base")
    recipe = tmp_path / "tiny.toml"
    rate, lora = {"adapter": "1e-2", "all": "1e-3"}[tune], f'{LORA}tune = "{tune}"'
    recipe.write_text(RECIPE.format(system="hazard", draws=2400, rate=rate, fgm=0.0, lora=lora))
    out = tmp_path / "out"
    run("train", recipe, "--data", data, "--out", out, "--base", base)
    files = Manifest.load(out / "model").files
    assert {"model.onnx", "tokenizer.json", "base/model.q4.safetensors", "adapter/adapter_model.safetensors"} <= set(
        files
    )

    with serving("--stage1", out / "model", "--stage2", out / "model") as stub:
        answer = stub.Check(check_pb2.CheckRequest(text="how do I smash a wooden boat at night"))
    hazards = {hazard.slug: hazard.probability for hazard in answer.hazards}
    assert answer.route.escalated
    assert max(hazards, key=hazards.__getitem__) == "nonviolent_crimes"


def test_a_recipe_with_an_unknown_key_is_refused(tmp_path: Path, data: Path):
    recipe = tmp_path / "bad.toml"
    recipe.write_text(RECIPE.format(system="tinysafe", draws=16, rate="1e-3", fgm=0, lora="") + "\nspeed = 3\n")
    done = run("train", recipe, "--data", data, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert "speed" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_data_are_named(tmp_path: Path):
    done = run("train", "tinysafe", "--data", tmp_path, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert "toxicchat.train" in done.stderr
    assert not (tmp_path / "out" / "model").exists()
