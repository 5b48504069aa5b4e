import builtins
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.manifest import revision_of
from tests.tools.conftest import Done

Run = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder whose manifest is right and whose network is none."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"no network")
    files = {"model.onnx": hashlib.sha256(b"no network").hexdigest()}
    manifest = {
        "name": "toy",
        "kind": "toy",
        "revision": revision_of(files),
        "files": files,
        "taxonomy": "toy@1",
        "labels": ["one", "two"],
        "base": "nothing",
        "licence": "CC-BY-NC-4.0",
        "training_sets": [{"name": "made-up", "licence": "CC0-1.0"}],
        "metrics": {},
        "window_tokens": 8,
        "overlap": 2,
        "pad_id": 0,
        "quantisation": "none",
        "calibration": {"unsafe": {"slope": 1.0, "bias": 0.0}, "labels": []},
        "calibrated_on": "nothing",
        "golden": [],
        "tolerance": 0.1,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_shows_the_terms_of_the_weights_apart_from_the_codes(cascade: Run, folder: Path) -> None:
    (model,) = cascade("models", "list", folder, "--json").json()
    assert (model["name"], model["licence"], model["code_licence"]) == ("toy", "CC-BY-NC-4.0", "Apache-2.0")
    assert model["files"] == {"model.onnx": hashlib.sha256(b"no network").hexdigest()}
    assert model["training_sets"] == {"made-up": "CC0-1.0"}
    table = cascade("models", "list", "model").out
    for words in ("toy@1", "CC-BY-NC-4.0", "Apache-2.0", "made-up", model["revision"]):
        assert words in table


def test_verify_finds_a_changed_file(cascade: Run, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"another network")
    done = cascade("models", "verify", folder, "--json")
    assert done.code == 1
    assert done.json()[0]["ok"] is False
    assert "SHA-256" in done.json()[0]["detail"]
    assert "FAILED" in cascade("models", "verify", folder).out


def test_no_such_model(cascade: Run) -> None:
    done = cascade("models", "list", "missing")
    assert (done.code, done.err.count("\n")) == (1, 1)


def test_fetch_hands_names_and_folder_on(cascade: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def fetch(names: list[str], out: Path) -> list[Path]:
        asked.append((names, out))
        return [out / name for name in names]

    monkeypatch.setattr("training.backbones.fetch", fetch)
    done = cascade("models", "fetch", "minilm-l6", "me5-small", "--out", "bases")
    assert asked == [(["minilm-l6", "me5-small"], Path("bases"))]
    assert done.out.splitlines() == ["bases/minilm-l6", "bases/me5-small"]


def test_fetch_without_what_it_needs_names_the_extra(cascade: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("training"):
            raise ImportError("no module", name="torch")
        return usual(name, *rest)

    monkeypatch.delitem(sys.modules, "training.backbones", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    done = cascade("models", "fetch", "minilm-l6", "--out", "bases")
    assert done.code == 1
    assert "safety-cascade[train]" in done.err
    assert "torch is missing" in done.err
