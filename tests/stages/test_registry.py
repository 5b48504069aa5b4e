"""A model folder is loaded whole or refused with a line that says why."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stages.encoder import MODEL
from stages.errors import ModelError, ScoreDriftError
from stages.manifest import Manifest
from stages.registry import EMBEDDED, load_stage
from stages.stage import Stage


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "tinysafe"
    shutil.copytree(EMBEDDED["tinysafe"], copy)
    return copy


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models_load_by_hash_and_replay_their_golden_texts(name):
    stage = load_stage(name)
    assert isinstance(stage, Stage)
    assert stage.info.revision == Manifest.load(EMBEDDED[name]).revision
    assert len(Manifest.load(EMBEDDED[name]).golden) >= 8


def test_a_tampered_file_is_named(folder):
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.onnx: SHA-256"):
        load_stage(folder)


def test_a_missing_file_is_named(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        load_stage(folder)


def test_a_folder_without_a_manifest_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"no model folder"):
        load_stage(tmp_path)


def test_an_unknown_name_lists_the_embedded_ones():
    with pytest.raises(ModelError, match="tinysafe, hazard"):
        load_stage("tinisafe")


@pytest.mark.parametrize(
    "changes", [{"kind": "oracle"}, {"labels": ["violence"]}, {"speed": 3}, {"revision": "0" * 12}]
)
def test_a_manifest_that_does_not_fit_is_refused(folder, changes):
    edit(folder, **changes)
    with pytest.raises(ModelError):
        load_stage(folder)


def test_a_manifest_that_is_none_is_named_in_one_line(folder):
    path = folder / "manifest.json"
    for text, says in (
        ("{", "Invalid JSON"),
        ('{"name": 3, "kind": 4}', r"name: Input should be a valid string \(and \d+ more\)"),
    ):
        path.write_text(text)
        with pytest.raises(ModelError, match=says) as error:
            load_stage(folder)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


def test_scores_that_do_not_replay_are_refused_unless_allowed(folder):
    golden = json.loads((folder / "manifest.json").read_text())["golden"]
    golden[0]["unsafe"] += 1.0
    edit(folder, golden=golden)
    with pytest.raises(ScoreDriftError, match="--allow-score-drift"):
        load_stage(folder)
    assert load_stage(folder, allow_score_drift=True).info.name


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_text_scores_the_same_alone_in_company_and_from_many_threads(name):
    stage = load_stage(name)
    window = stage.encode("Which plants grow well in the shade of a wall?").windows[0]
    other = stage.encode("A much longer text that makes the batch wider than the first one needs. " * 4).windows[0]
    alone = stage.score([window])[0]
    in_company = stage.score([other, window])[1]
    assert in_company.unsafe == alone.unsafe
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: stage.score([window])[0], range(16)))
    assert all(r.unsafe == alone.unsafe and np.array_equal(r.labels, alone.labels) for r in results)
