"""Explanations: the rule that decided, what flagged hazards are, and the parts without which a stage is calmer."""

from __future__ import annotations

import pytest

from cascade.cache import Answers
from cascade.explaining import MOST
from cascade.v1.check_pb2 import CheckOptions, CheckRequest, CheckResponse, Conversation, Exchange, Turn
from tests.fakes import FakeStage, fake_pipeline, fake_policy

EXPLAIN = CheckOptions(explain=True)
DAY = "It was a fine day. Then he had a terrible hate thing in mind. Nobody saw it. All went home."


async def ask(
    request: CheckRequest | str, policy: str = "", *, alone: bool = False, **fakes: FakeStage
) -> CheckResponse:
    pipeline = fake_pipeline(**fakes, alone=alone, policies=[fake_policy(policy)])
    request = CheckRequest(text=request, options=EXPLAIN) if isinstance(request, str) else request
    try:
        return await pipeline.check(request)
    finally:
        await pipeline.close()


def named(response: CheckResponse, text: str) -> list[str]:
    return [text[part.start : part.end] for part in response.explanation.contributions]


async def test_the_sentence_that_counts_is_named_with_what_the_stage_says_without_it() -> None:
    response = await ask(DAY)
    assert named(response, DAY) == ["Then he had a terrible hate thing in mind."]
    (part,) = response.explanation.contributions
    assert (part.field, part.stage) == ("text", "stage2")
    without = await ask(CheckRequest(text=DAY[: part.start] + DAY[part.end :], options=EXPLAIN))
    whole = next(stage.calibrated_probability for stage in response.stages if stage.name == "stage2")
    assert part.drop == pytest.approx(whole - without.unsafe_probability, abs=1e-6)
    assert [found.slug for found in response.explanation.definitions] == ["hate"]
    assert not response.explanation.missing


async def test_of_one_sentence_the_words_are_named() -> None:
    text = "please be so kind and do a terrible thing for me now"
    (first,) = named(await ask(text), text)
    assert "terrible" in first
    assert len(first) < len(text) / 2


async def test_two_parts_that_are_unsafe_each_by_itself_count_for_nothing_alone() -> None:
    response = await ask("A terrible day. A fine day. A terrible night.")
    assert list(response.explanation.contributions) == []
    assert response.explanation.missing == ""


async def test_fields_of_an_exchange_and_turns_of_a_conversation_are_named() -> None:
    exchange = Exchange(prompt="What now? Tell me. Be quick.", response="Rest. Do a terrible thing. Then rest.")
    response = await ask(CheckRequest(exchange=exchange, options=EXPLAIN))
    assert [part.field for part in response.explanation.contributions] == ["exchange.response"]
    turns = [Turn(role="user", text="Hello. It is I."), Turn(role="user", text="Come. Do a terrible thing. Go.")]
    response = await ask(CheckRequest(conversation=Conversation(turns=turns), options=EXPLAIN))
    (part,) = response.explanation.contributions
    assert (part.field, turns[1].text[part.start : part.end]) == (
        "conversation.turns[1].text",
        "Do a terrible thing.",
    )


async def test_of_a_long_text_the_worst_window_is_looked_at_and_the_cost_stays_bounded() -> None:
    calm = "It was a fine day by the sea. "
    text = calm * 200 + "Then a terrible thing. " + calm * 200
    stage = FakeStage()
    response = await ask(text, stage1=stage, alone=True)
    assert named(response, text) == ["Then a terrible thing."]
    asked = sum(len(call) for call in stage.calls)
    plain = FakeStage()
    await ask(CheckRequest(text=text), stage1=plain, alone=True)
    assert asked - sum(len(call) for call in plain.calls) <= 1 + MOST


@pytest.mark.parametrize(
    ("text", "policy", "rule"),
    [
        ("a fine day", "", "stage1.unsafe_threshold"),
        ("a terrible day", "", "stage2.unsafe_threshold"),
        ("a terrible hate day", "[hazards.hate]\nthreshold = 0.5\naction = 'BLOCK'", "hazards.hate.action"),
    ],
)
async def test_the_rule_that_decided_is_named_with_what_it_compared(text: str, policy: str, rule: str) -> None:
    response = await ask(text, policy)
    why = response.explanation
    if rule == "hazards.hate.action" and response.override_rule == "":
        rule = "stage2.unsafe_threshold"  # the score alone was enough
    assert why.rule == rule
    assert (why.probability >= why.threshold) == (response.verdict == 3)
    if rule.endswith("unsafe_threshold"):
        assert why.probability == response.unsafe_probability


async def test_nothing_is_explained_unless_asked_for_and_nothing_asked_of_a_stage_for_what_is_safe() -> None:
    assert not (await ask(CheckRequest(text=DAY))).HasField("explanation")
    stage = FakeStage()
    response = await ask("A fine day. A fine night. A fine week.", stage1=stage, alone=True)
    assert response.explanation.rule == "stage1.unsafe_threshold"
    assert len(stage.calls) == 1


async def test_a_stage_that_fails_on_the_way_leaves_the_verdict_and_is_named() -> None:
    asked = 0

    def fail(windows: object) -> BaseException | None:
        nonlocal asked
        asked += 1
        return RuntimeError("out of order") if asked > 1 else None

    response = await ask("Fine. A terrible day. Fine.", alone=True, stage1=FakeStage(fail=fail))
    assert response.verdict == 3
    assert response.explanation.missing == "STAGE_FAILED"
    assert not response.explanation.contributions
    assert not response.degraded


async def test_explained_answers_come_from_the_cache_whole() -> None:
    pipeline = fake_pipeline(FakeStage(), FakeStage("hazard"), answers=Answers("models"))
    request = CheckRequest(text=DAY, options=EXPLAIN)
    first, second = [await pipeline.check(request) for _ in range(2)]
    assert first.explanation == second.explanation
    assert second.explanation.contributions
    await pipeline.close()
