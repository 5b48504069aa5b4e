"""The embedded weights keep their budget, say their terms, and their forms agree."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stages.manifest import Manifest
from stages.registry import EMBEDDED, WEIGHTS, load_stage

MB = 1_000_000


def size(path):
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) if path.is_dir() else path.stat().st_size


def test_budget():
    assert size(EMBEDDED["tinysafe"] / "model.onnx") <= 25 * MB
    assert size(EMBEDDED["hazard"] / "model.onnx") <= 42 * MB
    weights = [f for f in WEIGHTS.rglob("*") if f.suffix in (".onnx", ".safetensors")]
    assert sum(map(size, weights)) <= 95 * MB
    assert max(map(size, weights)) <= 60 * MB


def test_terms_stand_apart_from_the_code():
    assert "non-commercial" in (WEIGHTS / "LICENSE").read_text().lower()
    for folder in EMBEDDED.values():
        manifest = Manifest.load(folder)
        assert manifest.licence != "Apache-2.0"
        assert any("NC" in entry.licence for entry in manifest.training_sets)


def test_the_merged_int8_file_agrees_with_base_and_adapter():
    torch = pytest.importorskip("torch")
    from stages.hazard.adapted import load_adapted

    folder = EMBEDDED["hazard"]
    stage, manifest = load_stage("hazard"), Manifest.load(folder)
    network = load_adapted(folder, len(manifest.labels))
    differences = []
    for golden in manifest.golden:
        window = stage.encode(golden.text).windows[0]
        ids = torch.tensor([window.ids])
        with torch.inference_mode():
            binary, hazards = network(ids, torch.ones_like(ids))
        expected = np.array([binary.item(), *hazards[0].tolist()])
        scores = stage.score([window])[0]
        differences.append(np.abs(np.array([scores.unsafe, *scores.labels]) - expected))
    assert np.mean(differences) < 0.25
    assert np.max(differences) < 1.0


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_window_gets_the_same_scores_alone_on_all_cores_and_among_others(name):
    one, many = load_stage(name), load_stage(name, calls=2)
    words = "how do I bake a loaf of bread without an oven "
    windows = [window for size in (1, 7, 40) for window in one.encode(words * size).windows]
    expected = [one.score([window])[0] for window in windows]
    alone = [many.score([window])[0] for window in windows]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda window: many.score([window])[0], windows * 3))
    for found in (alone, together[: len(windows)], together[-len(windows) :]):
        assert [score.unsafe for score in found] == [score.unsafe for score in expected]
        assert all(np.array_equal(a.labels, b.labels) for a, b in zip(found, expected, strict=True))
