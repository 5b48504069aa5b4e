"""The real commands on a folder as its author published it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from stages.manifest import file_hash, revision_of
from stages.taxonomy import TINYSAFE_CATEGORIES
from tests.stages.tinysafe_checkpoints import export, network, sentence_piece_model, write_tokenizer
from tests.tools.conftest import Done, in_process

Run = Callable[..., Done]
CLI = [sys.executable, "-m", "cascade.cli"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TinySafe v1 as ``model.onnx`` and ``spm.model``."""
    folder = tmp_path_factory.mktemp("exported")
    write_tokenizer(folder, sentence_piece_model())
    export(1, folder)
    return folder


@pytest.fixture
def weights(exported: Path, tmp_path: Path) -> Path:
    """TinySafe v2 as ``model.safetensors`` and ``spm.model``."""
    folder = tmp_path / "weights"
    write_tokenizer(folder, (exported / "spm.model").read_bytes())
    save_file(network(2).state_dict(), folder / "model.safetensors")
    return folder


def test_classify_with_a_published_stage_1(exported: Path, tmp_path: Path) -> None:
    done = in_process(CLI, "classify", "A careful question.", "--stage1", exported, "--json", folder=tmp_path)
    assert done.code == 0, done.err
    assert "stage1: tinysafe-onnx@" in done.err
    assert "is not calibrated, and the thresholds of policy default were not fitted on it" in done.err
    answer = done.json()
    first = answer["stages"][0]
    files = {path.name: file_hash(path) for path in exported.iterdir()}
    assert (first["model"], first["revision"]) == ("tinysafe-onnx", revision_of(files))
    assert {category["name"] for category in answer["categories"]} == set(TINYSAFE_CATEGORIES)
    assert 0 < first["calibratedProbability"] == first["unsafeProbability"] < 1


def test_classify_with_published_weights_as_either_stage(cascade: Run, weights: Path) -> None:
    alone = cascade("classify", "My neighbour paints.", "--stage1", weights, "--stage2", "none", "--json").json()
    assert alone["stages"][0]["model"] == "tinysafe-v2"
    assert alone["unsafeProbability"] == alone["stages"][0]["calibratedProbability"]
    escalated = cascade("classify", "Мой сосед рисует мост.", "--stage2", weights, "--json").json()
    assert [stage["model"] for stage in escalated["stages"]] == ["tinysafe", "tinysafe-v2"]


def test_models_list_shows_every_hash(cascade: Run, weights: Path) -> None:
    (model,) = cascade("models", "list", weights, "--json").json()
    files = {path.name: file_hash(path) for path in weights.iterdir()}
    assert set(files) == {"model.safetensors", "spm.model", "tokenizer_config.json"}
    assert model["files"] == files
    assert (model["name"], model["revision"]) == ("tinysafe-v2", revision_of(files))
    assert (model["base"], model["licence"]) == ("microsoft/deberta-v3-small", "MIT")
    table = cascade("models", "list", weights).out
    assert all(digest in table.replace("\n", "") or digest[:32] in table for digest in files.values())


def test_models_list_tells_what_the_default_thresholds_are_worth(cascade: Run, weights: Path) -> None:
    (published,) = cascade("models", "list", weights, "--json").json()
    (embedded,) = cascade("models", "list", "tinysafe", "--json").json()
    assert (published["calibrated"], embedded["calibrated"]) == (False, True)
    assert "fit a policy on it" in " ".join(cascade("models", "list", weights).out.split())


def test_models_verify_loads_it(cascade: Run, weights: Path) -> None:
    assert cascade("models", "verify", weights, "--json").json()[0]["ok"] is True
    (weights / "spm.model").write_bytes(b"no model")
    done = cascade("models", "verify", weights, "--json")
    assert done.code == 1
    assert "spm.model: not a SentencePiece model" in done.json()[0]["detail"]


def test_a_folder_that_is_no_model_is_one_line(cascade: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = cascade("classify", "hello", "--stage1", "empty")
    assert done.code != 0
    assert done.err.count("\n") == 1
    assert "empty: no model folder" in done.err
