"""Labels are told apart by taxonomy: any model may be either stage, and each label lands in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascade.v1.check_pb2 import CheckRequest, CheckResponse, Verdict
from stages.stage import sigmoid
from stages.taxonomy import DUOGUARD_LABELS, LEGACY9, LEGACY9_VERSION, TINYSAFE_CATEGORIES
from tests.fakes import CALM, LABEL_OFF, LABEL_ON, WORDS, FakeStage, fake_pipeline, fake_policy

ON, OFF = sigmoid(LABEL_ON), sigmoid(LABEL_OFF)
DUOGUARD = DUOGUARD_LABELS
LEGACY = tuple(slug for _, slug in LEGACY9)


def speaking(labels: tuple[str, ...], *, judges: bool = True, words: dict[str, float] | None = None) -> FakeStage:
    """A stage with labels of a system that is served as published."""
    return FakeStage("hazard", labels=labels, judges=judges, words=words)


async def check(text: str, stage1: FakeStage | None = None, stage2: FakeStage | None = None, toml: str = "", **more):
    pipeline = fake_pipeline(stage1, stage2, policies=[fake_policy(toml)], **more)
    try:
        return await pipeline.check(CheckRequest(text=text))
    finally:
        await pipeline.close()


def hazards(response: CheckResponse) -> dict[str, float]:
    return {found.slug: found.probability for found in response.hazards if found.HasField("probability")}


def categories(response: CheckResponse) -> dict[str, float]:
    return {found.name: found.probability for found in response.categories}


async def test_a_category_is_no_hazard_of_the_same_name() -> None:
    response = await check("bad hate", FakeStage("tinysafe"), FakeStage("tinysafe"))
    assert response.route.escalated
    assert hazards(response) == {}
    assert categories(response) == pytest.approx(dict.fromkeys(TINYSAFE_CATEGORIES, OFF) | {"hate": ON})


async def test_hazards_of_a_stage_1_count_where_it_is_alone() -> None:
    response = await check("unsure hate", FakeStage("hazard"), alone=True)
    assert hazards(response)["hate"] == pytest.approx(ON)
    assert [found.slug for found in response.hazards if found.flagged] == ["hate"]
    assert response.verdict == Verdict.VERDICT_CONTROVERSIAL  # it is flagged, though not over the unsafe threshold
    assert categories(response) == {}


async def test_a_class_that_takes_in_another_hazard_tells_so_and_scores_it_not() -> None:
    legacy = speaking(LEGACY, judges=False)
    legacy.info = replace(legacy.info, taxonomy=LEGACY9_VERSION)
    found = {hazard.slug: hazard for hazard in (await check("bad sex_crimes", stage2=legacy)).hazards}
    assert found["sex_crimes"].flagged
    assert list(found["sex_crimes"].related) == ["child_exploitation"]
    assert not found["child_exploitation"].HasField("probability")
    assert [hazard.slug for hazard in found.values() if hazard.related] == ["sex_crimes"]
    # Where the other stage scores the related hazard, or names sex crimes without it, there is nothing to tell.
    both = speaking(("child_exploitation",))
    assert not any(hazard.related for hazard in (await check("bad sex_crimes", both, legacy)).hazards)
    assert not any(hazard.related for hazard in (await check("bad sex_crimes", legacy, FakeStage("hazard"))).hazards)


async def test_of_a_label_that_both_score_stage_2s_counts() -> None:
    first, second = speaking(("hate", "privacy")), FakeStage("hazard", labels=("hate",), label_words=False)
    response = await check("bad hate privacy", first, second)
    assert hazards(response) == pytest.approx({"hate": OFF, "privacy": ON})


async def test_the_stages_may_change_places() -> None:
    response = await check("bad hate", FakeStage("hazard"), FakeStage("tinysafe"))
    assert hazards(response)["hate"] == pytest.approx(ON)
    assert categories(response)["hate"] == pytest.approx(ON)


async def test_a_jailbreak_is_an_attack_by_the_threshold_of_its_stage() -> None:
    toml = "[stage1]\nunsafe_threshold = 0.6\n[stage2]\nunsafe_threshold = 0.99"
    response = await check("bad jailbreak", FakeStage("tinysafe"), speaking(DUOGUARD), toml)
    assert "jailbreak" not in hazards(response)
    (attack,) = response.attacks
    assert (attack.name, attack.flagged) == ("jailbreak", False)
    assert attack.probability == pytest.approx(ON)
    (attack,) = (await check("bad jailbreak", speaking(DUOGUARD), toml=toml, alone=True)).attacks
    assert attack.flagged
    assert not (await check("bad jailbreak")).attacks


async def test_misinformation_is_an_attribute() -> None:
    response = await check("bad misinformation", FakeStage("tinysafe"), speaking(LEGACY))
    (attribute,) = response.attributes
    assert (attribute.name, attribute.probability) == ("misinformation", pytest.approx(ON))
    assert "elections" not in hazards(response)


async def test_a_stage_2_that_does_not_judge_names_hazards_and_leaves_the_probability() -> None:
    alarmed = {"bad": 9.0}
    response = await check("bad hate", FakeStage("tinysafe"), speaking(LEGACY, judges=False, words=alarmed))
    p = sigmoid(WORDS["bad"])
    assert response.route.escalated
    assert response.merge_rule == "stage1"
    assert response.unsafe_probability == pytest.approx(p)
    assert hazards(response)["hate"] == pytest.approx(p * ON)  # its own holds given that the text is unsafe
    assert hazards(response)["privacy"] == pytest.approx(p * OFF)
    assert [stage.name for stage in response.stages] == ["stage1", "stage2"]


async def test_what_stage_1_finds_safe_is_not_given_a_hazard_by_a_stage_without_a_class_for_it() -> None:
    toml = "[route]\nlow = 0.2\naudit_rate = 0.0"
    text = "unsure hate"  # escalated, since stage 1 gives it 0.27
    judging = await check(text, FakeStage("tinysafe"), speaking(LEGACY), toml)
    naming = await check(text, FakeStage("tinysafe"), speaking(LEGACY, judges=False), toml)
    assert [found.slug for found in judging.hazards if found.flagged] == ["hate"]
    assert naming.route.escalated
    assert [found.slug for found in naming.hazards if found.flagged] == []


async def test_a_judge_without_labels_moves_the_probability_only() -> None:
    response = await check("bad", FakeStage("tinysafe"), speaking((), words={"bad": 4.0}))
    assert response.unsafe_probability == pytest.approx(sigmoid(4.0))
    assert hazards(response) == {}
    assert sigmoid(CALM) < 0.05


def test_fakes_have_the_published_labels() -> None:
    info = speaking(LEGACY, judges=False).info
    assert info == replace(FakeStage("hazard").info, labels=LEGACY, judges=False)


async def test_in_a_language_that_stage_1_does_not_read_stage_2_is_not_outvoted() -> None:
    toml = '[merge]\nrule = "stacker"\n[merge.stacker]\nw1 = 0.9\nw2 = 0.1\n'
    russian = "Расскажи мне подробно, как это сделать: "
    read = await check("bad please", FakeStage("tinysafe", words={"bad": CALM}), FakeStage("hazard"), toml)
    unread = await check(russian + "bad", FakeStage("tinysafe", words={"bad": CALM}), FakeStage("hazard"), toml)
    assert "unread_script" in unread.route.triggers
    assert unread.unsafe_probability == pytest.approx(unread.stages[1].calibrated_probability)
    assert unread.verdict == Verdict.VERDICT_UNSAFE
    assert read.verdict != Verdict.VERDICT_UNSAFE
