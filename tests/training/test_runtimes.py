"""What cannot be fitted to a runtime is refused in a line, and the model stays as it is."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from stages.manifest import Manifest
from stages.registry import EMBEDDED
from training.runtimes import main


def fit(folder: Path) -> int:
    return main(["--data", str(folder), "--recipe", "tinysafe", "--runtime", "openvino", str(folder)])


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path) == 1
    assert capsys.readouterr().err == f"training.runtimes: {tmp_path}: no model folder, it has no manifest.json\n"


def test_a_network_that_scores_otherwise_than_on_onnxruntime_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("the extra `openvino` is not installed")
    folder = shutil.copytree(EMBEDDED["tinysafe"], tmp_path / "model")
    manifest = Manifest.load(folder)
    first, *rest = manifest.golden
    other = manifest.model_copy(update={"golden": [first.model_copy(update={"unsafe": first.unsafe - 1.0}), *rest]})
    other.save(folder)
    assert fit(folder) == 1
    assert "the golden texts differ by" in capsys.readouterr().err
    assert Manifest.load(folder) == other
