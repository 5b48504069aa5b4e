"""What is checked before a pipeline stands, with stand-ins for the loaded models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cascade import build
from cascade.errors import ModelError, PolicyError
from cascade.limits import Limits
from cascade.policy import fingerprint
from cascade.v1.check_pb2 import CheckRequest, Verdict
from stages.stage import Calibration, Platt
from tests.fakes import FakeStage, fake_policy


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, bool]]:
    """What was loaded, and whether drift was allowed; the specs are kinds of fake stages."""
    calls: list[tuple[object, bool]] = []

    def load_stage(spec: str, *, allow_score_drift: bool, **_: object) -> FakeStage:
        calls.append((spec, allow_score_drift))
        return FakeStage(spec)

    monkeypatch.setattr(build, "load_stage", load_stage)
    return calls


def policy_file(folder: Path, toml: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(f'schema = 1\nname = "mine"\n{toml}')
    return path


async def test_the_default_is_both_embedded_models_and_the_packaged_policy(
    loaded: list[tuple[object, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "default_policy", lambda: fake_policy(name="packaged"))
    pipeline = build.build_pipeline()
    assert loaded == [("tinysafe", False), ("hazard", False)]
    assert list(pipeline.stages) == ["stage1", "stage2"]
    assert pipeline.policies.names() == ("packaged",)
    assert pipeline.limits == Limits()
    assert (await pipeline.check(CheckRequest(text="a fine day"))).verdict == Verdict.VERDICT_SAFE
    await pipeline.close()


async def test_what_is_asked_for_is_taken(loaded: list[tuple[object, bool]], tmp_path: Path) -> None:
    limits = Limits(max_text_bytes=10)
    pipeline = build.build_pipeline(
        stage2_spec=None, policy_path=policy_file(tmp_path, ""), limits=limits, threads=3, allow_score_drift=True
    )
    assert loaded == [("tinysafe", True)]
    assert list(pipeline.stages) == ["stage1"]
    assert pipeline.policies.get().name == "mine"
    assert pipeline.limits == limits
    await pipeline.close()


def test_a_bad_policy_is_found_before_a_model_is_loaded(loaded: list[tuple[object, bool]], tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        build.build_pipeline(policy_path=policy_file(tmp_path, "x = 1"))
    assert loaded == []


@pytest.mark.usefixtures("loaded")
def test_a_policy_for_other_models_is_refused(tmp_path: Path) -> None:
    right, wrong = fingerprint(FakeStage().info.files), "0" * 64
    build.build_pipeline(policy_path=policy_file(tmp_path, f'[models]\nstage1 = "{right}"\n'))
    with pytest.raises(PolicyError, match=r"models\.stage2"):
        build.build_pipeline(policy_path=policy_file(tmp_path, f'[models]\nstage1 = "{right}"\nstage2 = "{wrong}"\n'))


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(("first", "second"), [("tinysafe", "tinysafe"), ("hazard", "tinysafe"), ("hazard", "hazard")])
async def test_each_model_may_be_either_stage(first: str, second: str) -> None:
    pipeline = build.build_pipeline(stage1_spec=first, stage2_spec=second)
    answer = await pipeline.check(CheckRequest(text="a terrible violence and hate"))
    assert [stage.model for stage in answer.stages] == [f"fake-{first}", f"fake-{second}"]
    await pipeline.close()


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_labels_that_an_answer_has_no_place_for_are_refused(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = FakeStage("hazard")
    odd.info = replace(odd.info, labels=(*odd.info.labels[:-1], "weather"))
    stages = {"tinysafe": FakeStage("tinysafe"), "hazard": FakeStage("hazard"), "odd": odd}
    monkeypatch.setattr(build, "load_stage", lambda spec, **_: stages[spec])
    with pytest.raises(ModelError, match=f"{stage}: fake-hazard has unknown labels: weather"):
        build.build_pipeline(**{f"{stage}_spec": "odd"})


def test_a_stage_1_that_does_not_judge_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fitted = Calibration(Platt(2.0))
    stages = {"tinysafe": FakeStage("tinysafe", calibration=fitted), "namer": FakeStage("hazard", calibration=fitted)}
    stages["namer"].info = replace(stages["namer"].info, judges=False)
    monkeypatch.setattr(build, "load_stage", lambda spec, **_: stages[spec])
    build.build_pipeline(stage2_spec="namer")
    assert not caplog.records
    build.build_pipeline(stage1_spec="namer", stage2_spec="tinysafe")
    build.build_pipeline(stage1_spec="namer", stage2_spec=None)
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [
        message.rpartition(": ")[2] for message in messages if message.startswith("stage1: fake-hazard@r1 names")
    ] == [
        "every text goes on to stage 2",
        "no stage does, and no verdict means anything",
    ]


def test_a_model_that_nobody_calibrated_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, fitted = FakeStage("tinysafe"), FakeStage("hazard", calibration=Calibration(Platt(2.0)))
    monkeypatch.setattr(build, "load_stage", lambda spec, **_: {"tinysafe": plain, "hazard": fitted}[spec])
    build.build_pipeline()
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith("stage1: fake-tinysafe@r1 is not calibrated")
    assert "policy default" in message
    assert "cascade tune" in message
    caplog.clear()
    pinned = fake_policy(f'[models]\nstage1 = "{fingerprint(plain.info.files)}"\n')
    build.build_pipeline(policies=[pinned])
    assert not caplog.records


def test_torch_gets_the_cores_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    batches: list[int] = []
    usual = build.Batcher

    def batcher(stage: FakeStage, *, threads: int, **options: object) -> object:
        batches.append(threads)
        return usual(stage, threads=threads, **options)

    monkeypatch.setattr(build, "Batcher", batcher)
    stages = {"tinysafe": FakeStage("tinysafe"), "hazard": FakeStage("hazard")}
    monkeypatch.setattr(build, "load_stage", lambda spec, **_: stages[spec])
    build.build_pipeline(threads=6)
    assert (batches, asked) == ([6, 6], [])
    stages["hazard"].info = replace(stages["hazard"].info, runtime="torch-float32")
    build.build_pipeline(threads=6)
    assert (batches[2:], asked) == ([6, 1], [6])
    stages["tinysafe"].info = replace(stages["tinysafe"].info, runtime="torch-float32")
    build.build_pipeline(threads=6)
    assert (batches[4:], asked) == ([1, 1], [6, 3])
