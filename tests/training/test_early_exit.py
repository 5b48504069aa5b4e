"""An early exit changes no score of what needs the whole network, and only a sure head spares the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from transformers import BertConfig, BertModel

from stages.encoder import replay_golden
from stages.errors import ModelError
from stages.manifest import Manifest
from stages.registry import load_stage
from stages.tinysafe.network import TinySafeNetwork
from tests.training.backbones import TEXTS, is_unsafe, word_piece_backbone, write_set
from tests.training.test_run import RECIPE, run
from training.early_exit import clear_of, highest_bar
from training.exit_head import ExitHead, States
from training.graft import state_of, tapped, with_exit
from training.quantise import export_onnx, quantise
from training.simplify import simplified

WIDTH, LABELS = 32, 7
SHAPES = ((1, 3), (2, 17), (1, 60))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """A small random encoder as training exports and quantises it."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1100, hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64
    )
    backbone = BertModel(config, add_pooling_layer=False)
    folder = tmp_path_factory.mktemp("network")
    made = TinySafeNetwork(backbone, hidden=WIDTH, labels=LABELS)
    export_onnx(made, folder / "fp32.onnx", "category_logits")
    quantise(folder / "fp32.onnx", folder / "int8.onnx")
    return onnx.load(folder / "int8.onnx")


@pytest.fixture(scope="module")
def head() -> ExitHead:
    torch.manual_seed(1)
    return ExitHead(WIDTH, LABELS).eval()


def scores(model: onnx.ModelProto, batch: int, tokens: int) -> list[np.ndarray]:
    """What a network says of random ids, of which a second row is padded."""
    ids = np.random.default_rng(batch + tokens).integers(5, 1000, (batch, tokens))
    mask = np.ones_like(ids)
    mask[1:, tokens // 2 :] = 0
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input_ids": ids, "attention_mask": mask})


def test_fewer_steps_give_the_same_scores(network: onnx.ModelProto) -> None:
    easier = simplified(network)
    assert len(easier.graph.node) < 0.9 * len(network.graph.node)
    for shape in SHAPES:
        for one, other in zip(scores(network, *shape), scores(easier, *shape), strict=True):
            assert np.array_equal(one, other)


def test_a_network_of_another_form_is_left_as_it_is_or_refused(network: onnx.ModelProto) -> None:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(network)
    softmax = next(node for node in wrong.graph.node if node.op_type == "Softmax")
    bias = next(node for node in wrong.graph.node if softmax.input[0] in node.output).input[1]
    maker = next(node for node in wrong.graph.node if bias in node.output)
    padding = next(name for name in maker.input if "float" not in name and maker.op_type == "Where")
    assert padding, "the exporter makes the bias with a Where"
    tensors = {tensor.name: tensor for tensor in wrong.graph.initializer}
    worst = tensors[maker.input[2]] if maker.input[2] in tensors else tensors[maker.input[1]]
    worst.CopyFrom(onnx.numpy_helper.from_array(np.array(-1.0, np.float32), worst.name))
    with pytest.raises(ModelError, match="something else"):
        simplified(wrong)


def test_what_needs_the_rest_gets_the_scores_of_the_whole_network(network: onnx.ModelProto, head: ExitHead) -> None:
    grafted = with_exit(network, 1, head, -1e9)
    for shape in SHAPES:
        for one, other in zip(scores(network, *shape), scores(grafted, *shape), strict=True):
            assert np.array_equal(one, other)


def test_what_leaves_gets_the_scores_of_the_head(network: onnx.ModelProto, head: ExitHead) -> None:
    grafted, seen = with_exit(network, 1, head, 1e9), tapped(network, state_of(network, 1))
    for batch, tokens in SHAPES:
        mask = torch.ones(batch, tokens, dtype=torch.bool)
        mask[1:, tokens // 2 :] = False
        with torch.inference_mode():
            expected = head(torch.from_numpy(scores(seen, batch, tokens)[2]), mask).numpy()
        unsafe, labels = scores(grafted, batch, tokens)
        assert np.allclose(unsafe, expected[:, 1], atol=1e-4)
        assert np.allclose(labels, expected[:, 2:], atol=1e-4)


def test_an_exit_has_layers_behind_it(network: onnx.ModelProto, head: ExitHead) -> None:
    for layer in (0, 3, 4):
        with pytest.raises(ModelError, match="layer"):
            with_exit(network, layer, head, 0.0)


@pytest.mark.parametrize("lost", [0.0, 0.05, 0.2, 1.0])
def test_the_bar_lets_no_more_leave_than_it_may(lost: float) -> None:
    rng = np.random.default_rng(0)
    need = rng.normal(size=500).astype(np.float32)
    needed = (need + rng.normal(size=500) > 0).astype(np.float32)
    weights = rng.random(500)
    empty = np.zeros((0, WIDTH), np.float16)
    states = States(empty, np.zeros(500, np.int64), np.zeros((500, 8), np.float32), needed, weights)
    bar = highest_bar(need, states, lost)
    gone = weights[(need <= bar) & (needed > 0)].sum() / weights.sum()
    assert gone <= lost
    above = need[need > bar]
    if above.size:
        more = weights[(need <= above.min()) & (needed > 0)].sum() / weights.sum()
        assert more > lost, "the next one would be too many"


def test_the_bar_stays_away_from_the_golden_texts() -> None:
    need = np.array([-3.0, -3.3, -3.5, -6.0, 2.0], np.float32)
    bar = clear_of(-3.2, need, 0.25)
    assert bar <= -3.2
    assert np.abs(need - bar).min() >= 0.25 - 1e-6
    assert clear_of(-4.5, need, 0.25) == -4.5


@pytest.mark.slow
def test_a_recipe_with_an_exit_makes_a_model_that_uses_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_set(data, "jailjudge_id", {0: ["SNA"], 1: ["S2"]})
    base, recipe, out = word_piece_backbone(tmp_path / "base"), tmp_path / "tiny.toml", tmp_path / "out"
    written = RECIPE.format(system="tinysafe", draws=1600, rate="5e-3", fgm=0.1, lora="")
    recipe.write_text(written)
    run("train", recipe, "--data", data, "--out", out, "--base", base)
    whole = Manifest.load(out / "model")
    command = [sys.executable, "-m", "training.early_exit", "--data", data, "--recipe", recipe, "--layer", 1]
    done = subprocess.run(
        [*map(str, command), str(out / "model"), str(tmp_path / "early")], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    early = Manifest.load(tmp_path / "early")
    early.verify(tmp_path / "early")
    assert early.revision != whole.revision
    assert early.calibration == whole.calibration
    assert early.metrics["early_exit_share"] > 0.2
    assert early.metrics["early_exit_lost"] < 0.02

    stage, before = load_stage(tmp_path / "early"), load_stage(out / "model")
    for text in TEXTS:
        windows = stage.encode(text).windows
        now, then = (model.calibration.unsafe(model.score(windows)[0].unsafe) for model in (stage, before))
        assert (now >= 0.5) == (then >= 0.5) == bool(is_unsafe(text))

    recipe.write_text(written.replace('base = "tiny"', 'base = "tiny"\nexit_layer = 1'))
    (out / "recipe.json").write_text(
        json.dumps(json.loads((out / "recipe.json").read_text()) | {"exit_layer": 1}), encoding="utf-8"
    )
    run("export", out, "--data", data, "--out", tmp_path / "again", "--base", base)
    assert Manifest.load(tmp_path / "again").files == early.files, "what a recipe asks for is what the command does"

    if find_spec("openvino") is not None:
        other = load_stage(tmp_path / "early", runtime="openvino")
        assert replay_golden(other, early) < 0.3
