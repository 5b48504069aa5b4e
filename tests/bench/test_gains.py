"""What speed was won and at what price: the measures behind ``tests.bench.stage1`` and ``tests.bench.cost``."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from cascade.evaluate.rows import Row
from cascade.policy import default_policy
from stages.encoder import replay_golden
from stages.manifest import Manifest
from stages.registry import EMBEDDED
from tests.bench import baseline, cost, stage1
from tests.bench.stage1 import Spent
from tests.fakes import FakeStage, fake_policy
from training.held_out import KINDS, HeldOut

UNSAFE, SAFE = "a terrible wish", "how is bread made at home"


def held(rows_a_kind=20):
    """Rows of our own for each kind of traffic, every other one unsafe."""
    rows = [(sources[0], number % 2) for sources in KINDS.values() for number in range(rows_a_kind)]
    return HeldOut(
        [
            Row(str(at), f"{UNSAFE if bad else SAFE} {at}", None, bool(bad), (), "en")
            for at, (_, bad) in enumerate(rows)
        ],
        [source for source, _ in rows],
        np.array([float(bad) for _, bad in rows]),
        np.full((len(rows), 14), np.nan),
    )


@pytest.fixture
def at_commit(tmp_path, monkeypatch):
    """A repository whose first commit has other weights than its second; gives the first."""

    def git(*arguments):
        own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *own, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    weights = tmp_path / "stages" / "weights" / "tinysafe"
    weights.mkdir(parents=True)
    git("init", "-q")
    for content in ("old", "new"):
        (weights / "model.onnx").write_text(content)
        git("add", ".")
        git("commit", "-qm", content)
    monkeypatch.setattr(baseline, "ROOT", tmp_path)
    return git("rev-parse", "HEAD~1").strip()


def test_a_baseline_is_taken_out_of_the_history(at_commit):
    with baseline.model_folder(at_commit, "tinysafe") as folder:
        assert (folder / "model.onnx").read_text() == "old"
    assert not folder.exists()
    with pytest.raises(SystemExit, match="neither a model folder nor a commit"), baseline.model_folder("0" * 40, "x"):
        pass


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_plain_session_scores_as_the_manifest_says(name):
    with baseline.model_folder(str(EMBEDDED[name]), name) as folder:
        assert replay_golden(baseline.plain_stage(folder), Manifest.load(folder)) <= Manifest.load(folder).tolerance


def test_throughput_is_that_of_the_medians_with_an_interval():
    seconds = [[0.001, 0.002, 0.9], [0.003, 0.003, 0.003]] * 10
    slower = [[2 * one for one in rounds] for rounds in seconds]
    found = stage1.throughput({"model": Spent(50, seconds), "baseline": Spent(50, slower)})
    assert found["windows_per_s"] == {"model": 1000.0, "baseline": 500.0}
    assert found["times"] == {"value": 2.0, "low": 2.0, "high": 2.0}


def test_models_take_turns_over_all_blocks():
    order, stages = [], {}
    for name in ("model", "baseline"):
        stages[name] = FakeStage("tinysafe", fail=lambda windows, name=name: order.append(name))
    spent = stage1.in_turn(stages, [["a", "b"], ["c"]], 3)
    assert {name: one.windows for name, one in spent.items()} == {"model": 3, "baseline": 3}
    assert all([len(rounds) for rounds in one.seconds] == [3, 3] for one in spent.values())
    timed = order[2:]
    assert all(set(timed[at : at + 2]) == {"model", "baseline"} for at in range(0, len(timed), 2))
    assert timed.count("model") == timed[::2].count("model") * 2 == 6  # first as often as second


def test_decisions_and_f1_are_compared():
    policy = default_policy()
    at, low = policy.stage1.unsafe_threshold, policy.route.low
    high, between, none = min(0.99, at + 0.05), (at + low) / 2, low / 2
    ours, other = np.array([high, high, none, none]), np.array([high, between, between, none])
    found = stage1.compare(ours, other, np.array([1.0, 1.0, 0.0, 0.0]), policy)
    assert (found["texts"], found["equal_decisions"], found["equal_routing"]) == (4, 0.75, 0.75)
    assert (found["f1"], found["f1_other"], found["best_f1"]) == (1.0, pytest.approx(2 / 3, abs=1e-4), 1.0)
    assert found["best_f1_other"] == pytest.approx(0.8)


def test_a_model_is_measured_against_baseline_and_reference():
    deaf = FakeStage("tinysafe", words={})
    stages = {"model": FakeStage("tinysafe"), "baseline": deaf, "reference": FakeStage("tinysafe")}
    found = stage1.measure(stages, held(), 8, 2, fake_policy())
    assert found["throughput"].keys() == {*KINDS, "all"}
    assert found["throughput"]["all"]["windows"] == sum(found["throughput"][kind]["windows"] for kind in KINDS)
    bounds = found["bounds"]
    assert bounds["equal_decisions_to_reference"].value == 1.0
    assert bounds["f1_above_reference"].holds
    assert not bounds["equal_decisions_to_baseline"].holds
    assert bounds["f1_above_baseline"].value > 0.5
    assert bounds["throughput_chat"].least == 2.0


async def test_the_cascade_costs_stage_1_and_what_it_escalates():
    stages = {"stage1": FakeStage("tinysafe"), "stage2": FakeStage("hazard"), "baseline": FakeStage("hazard")}
    texts = [row.text for row in held(8).rows]
    found = await cost.measure(stages, texts, 2, fake_policy())
    assert {name: len(rounds) for name, rounds in found["cpu_s"].items()} == dict.fromkeys(cost.SYSTEMS, 2)
    assert all(seconds > 0 for rounds in found["cpu_s"].values() for seconds in rounds)
    asked = {name: sum(map(len, stage.calls)) for name, stage in stages.items()}
    whole = 2 * len(texts) + cost.IN_FLIGHT  # two rounds and the warm-up
    assert asked["baseline"] == whole
    assert asked["stage1"] == 2 * whole  # alone and in the cascade
    assert whole <= asked["stage2"] < 2 * whole
    assert found["escalated"] == pytest.approx((asked["stage2"] - whole) / whole, abs=0.2)


def test_the_cost_is_bounded_by_what_is_escalated():
    cpu_s = {
        "stage1": [2.0, 9.0, 1.0],
        "stage2": [10.0, 10.0, 10.0],
        "cascade": [4.3, 4.2, 4.4],
        "baseline": [11.0] * 3,
    }
    found = cost.judge(cpu_s, 0.2)
    assert (found["cascade_to_stage2"].most, found["cascade_to_stage2"].holds) == (pytest.approx(0.43), True)
    assert (found["cascade_to_baseline"].value, found["cascade_to_baseline"].holds) == (pytest.approx(4.3 / 11), True)
    assert not cost.judge(cpu_s, 0.19)["cascade_to_stage2"].holds
