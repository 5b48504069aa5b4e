"""The request path from a request to its answer, on stages that words control."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cascade.content import check_request
from cascade.errors import (
    DeadlineError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    OverloadedError,
    StageError,
    UnavailableError,
)
from cascade.jsonform import to_dict
from cascade.merging.segments import length_calibrated
from cascade.v1.check_pb2 import (
    Action,
    CheckOptions,
    CheckRequest,
    CheckResponse,
    Conversation,
    RouteReason,
    Turn,
    Verdict,
)
from stages.stage import Calibration, Platt, Window, sigmoid
from stages.taxonomy import HAZARD_CODES, HAZARD_SLUGS, TINYSAFE_CATEGORIES
from tests.fakes import CALM, LABEL_OFF, LABEL_ON, WORDS, FakeStage, fake_pipeline, fake_policy, word_id


async def check(request: CheckRequest | str, **options: object) -> CheckResponse:
    """The answer of a pipeline made for this request."""
    pipeline = fake_pipeline(**options)  # type: ignore[arg-type]
    try:
        return await pipeline.check(CheckRequest(text=request) if isinstance(request, str) else request)
    finally:
        await pipeline.close()


def judged(response: CheckResponse) -> tuple[str, str]:
    return Verdict.Name(response.verdict)[8:], Action.Name(response.action)[7:]


def reason(response: CheckResponse) -> str:
    return RouteReason.Name(response.route.reason)[13:]


def hazard(response: CheckResponse, slug: str):
    return response.hazards[HAZARD_SLUGS.index(slug)]


async def test_a_calm_text_passes_at_stage_1() -> None:
    response = await check("a fine day")
    assert judged(response) == ("SAFE", "ALLOW")
    assert (response.route.escalated, reason(response)) == (False, "PASSED")
    assert response.unsafe_probability == pytest.approx(sigmoid(CALM))
    assert response.merge_rule == "stage1"
    assert [stage.name for stage in response.stages] == ["stage1"]
    assert [category.name for category in response.categories] == list(TINYSAFE_CATEGORIES)
    assert (response.degraded, response.degraded_reason, response.override_rule) == (False, "", "")
    assert response.policy_revision == fake_policy().revision


async def test_the_14_hazards_are_always_there_and_unknown_where_nobody_scored_them() -> None:
    response = await check("a fine day")
    assert [(found.slug, found.code) for found in response.hazards] == list(HAZARD_CODES.items())
    assert not any(found.HasField("probability") or found.flagged for found in response.hazards)
    escalated = await check("bad hate")
    assert all(found.HasField("probability") for found in escalated.hazards)
    assert [found.slug for found in escalated.hazards if found.flagged] == ["hate"]
    assert hazard(escalated, "hate").probability == pytest.approx(sigmoid(LABEL_ON))
    assert hazard(escalated, "privacy").probability == pytest.approx(sigmoid(LABEL_OFF))
    assert hazard(escalated, "hate").threshold == 0.5


async def test_a_flagged_text_goes_to_stage_2_and_the_stages_are_merged() -> None:
    stage2 = FakeStage("hazard", words={"bad": 2.0})
    response = await check("a bad day", stage2=stage2, policies=[fake_policy('[merge]\nrule = "logit_mean"')])
    assert judged(response) == ("UNSAFE", "BLOCK")
    assert (response.route.escalated, reason(response)) == (True, "FLAGGED")
    assert response.unsafe_probability == pytest.approx(sigmoid((WORDS["bad"] + 2.0) / 2))
    assert response.merge_rule == "logit_mean"
    first, second = response.stages
    assert (first.name, first.model, first.revision, first.device) == ("stage1", "fake-tinysafe", "r1", "cpu")
    assert (second.name, second.calibrated_probability) == ("stage2", pytest.approx(sigmoid(2.0)))
    assert min(second.tokenize_ms, second.queue_ms, second.infer_ms) >= 0


async def test_stage_2_decides_again() -> None:
    policy = fake_policy('[merge]\nrule = "stacker"\n[merge.stacker]\nw1 = 0.1\nw2 = 1.0\n')
    cleared = await check("a bad day", stage2=FakeStage("hazard", words={}), policies=[policy])
    assert (judged(cleared), reason(cleared)) == (("SAFE", "ALLOW"), "FLAGGED")
    confirmed = await check("unsure", stage2=FakeStage("hazard", words={"unsure": 4.0}), policies=[policy])
    assert (judged(confirmed), reason(confirmed)) == (("UNSAFE", "BLOCK"), "UNCERTAIN")


async def test_stage_2_cannot_clear_what_stage_1_was_sure_of() -> None:
    policy = fake_policy('[merge]\nrule = "stacker"\n[merge.stacker]\nw1 = 0.1\nw2 = 1.0\n')
    response = await check("a terrible day", stage2=FakeStage("hazard", words={}), policies=[policy])
    assert judged(response) == ("CONTROVERSIAL", "REVIEW")


async def test_both_fields_of_an_exchange_are_judged_and_the_last_turn_of_a_conversation() -> None:
    for request in (
        check_request("a bad question", "a fine answer"),
        check_request("a fine question", "a bad answer"),
        CheckRequest(conversation=Conversation(turns=[Turn(text="fine"), Turn(text="fine"), Turn(text="bad")])),
    ):
        assert judged(await check(request)) == ("UNSAFE", "BLOCK")
    assert judged(await check(check_request("a fine question", "a fine answer"))) == ("SAFE", "ALLOW")


async def test_a_long_text_is_covered_whole() -> None:
    text = " ".join(["word"] * 20_000) + " bad"
    response = await check(text)
    assert judged(response) == ("UNSAFE", "BLOCK")
    coverage = response.coverage
    assert (coverage.tokens_total, coverage.tokens_scored, coverage.truncated) == (20_001, 20_001, False)
    assert coverage.segments == len(FakeStage().encode(text).windows)


async def test_a_hazard_has_to_be_surer_the_longer_the_text() -> None:
    """Else some window of a long harmless text names one by chance, and the hazards that block by themselves block."""
    stage2 = FakeStage("hazard", calibration=Calibration(labels=(Platt(),) * len(HAZARD_SLUGS), length_penalty=1.0))
    policy = fake_policy('[merge]\nsegments = "length_calibrated"\n')
    for words, seen in ((3, sigmoid(LABEL_ON)), (2000, 0.0)):
        response = await check(" ".join(["word"] * words) + " unsure hate", stage2=stage2, policies=[policy])
        assert response.route.escalated
        assert hazard(response, "hate").probability == pytest.approx(seen, abs=0.03)
        assert hazard(response, "hate").flagged == (words == 3)


async def test_a_hazard_that_harmless_texts_never_come_near_is_seen_in_texts_of_any_length() -> None:
    penalties = tuple(1.0 if slug == "hate" else 0.0 for slug in HAZARD_SLUGS)
    calibration = Calibration(
        labels=(Platt(),) * len(HAZARD_SLUGS), length_penalty=1.0, label_length_penalties=penalties
    )
    stage2 = FakeStage("hazard", calibration=calibration)
    policy = fake_policy('[merge]\nsegments = "length_calibrated"\n')
    response = await check(" ".join(["word"] * 2000) + " unsure hate privacy", stage2=stage2, policies=[policy])
    assert hazard(response, "privacy").probability == pytest.approx(sigmoid(LABEL_ON), abs=0.03)
    assert hazard(response, "hate").probability == pytest.approx(0.0, abs=0.03)


async def test_coverage_counts_the_raw_text_of_all_fields_once() -> None:
    obfuscated = (
        "b\u200bad \u0441at"  # a zero-width space, a Cyrillic letter: there is a canonical view beside the raw one
    )
    stage = FakeStage()
    response = await check(check_request(obfuscated, "a fine answer"), stage1=stage)
    alone = {window.ids for call in stage.calls for window in call if word_id("¶") not in window.ids}
    assert len(alone) == 3, "two views of one field, one of the other"
    assert (response.coverage.tokens_total, response.coverage.segments) == (5, 2)


async def test_the_canonical_view_is_judged_beside_the_raw_one() -> None:
    response = await check(CheckRequest(text="a b\u200ba\u200bd day", options=CheckOptions(explain=True)))
    assert judged(response) == ("UNSAFE", "BLOCK")
    assert "views_disagree" in response.route.triggers
    assert {(span.start, span.end) for span in response.spans} == {(0, 11)}, "spans are of the raw text"


async def test_a_field_without_a_canonical_view_stands_in_raw() -> None:
    response = await check(check_request("a fine \u0441at", "a bad answer"))
    assert response.route.triggers == [], "both ways of reading the content see the answer"


async def test_a_script_that_stage_1_does_not_read_goes_to_stage_2() -> None:
    response = await check("добрый день вам всем")
    assert (response.route.escalated, reason(response)) == (True, "TRIGGERED")
    assert response.route.triggers == ["unread_script"]


async def test_what_a_stage_1_that_cannot_judge_passes_stage_2_judges() -> None:
    namer = FakeStage("hazard", judges=False, words={"bad": -4.0, "violence": 5.0})
    missed = await check("a bad day for everybody", stage1=namer)
    assert (missed.route.triggers, judged(missed)) == (["no_judge"], ("UNSAFE", "BLOCK"))
    calm = await check("violence in the films of the sixties", stage1=namer)
    assert (judged(calm), calm.merge_rule) == (("SAFE", "ALLOW"), "stage2")


async def test_a_sensitive_hazard_goes_to_stage_2_early() -> None:
    policy = fake_policy("[hazards.hate]\nescalate_at = 0.3\n")
    assert reason(await check("hate of every day", policies=[policy])) == "SENSITIVE_HAZARD"
    assert reason(await check("hate of every day")) == "PASSED"


async def test_audits_take_their_share_and_the_same_texts_each_time() -> None:
    pipeline = fake_pipeline(policies=[fake_policy("[route]\naudit_rate = 0.2")])
    texts = [f"text number {number}" for number in range(150)]

    async def audited() -> list[bool]:
        responses = [await pipeline.check(CheckRequest(text=text)) for text in texts]
        assert {reason(response) for response in responses} == {"PASSED", "AUDITED"}
        return [response.route.escalated for response in responses]

    first = await audited()
    assert 10 < sum(first) < 60
    assert await audited() == first
    await pipeline.close()


async def test_who_is_audited_cannot_be_told_without_the_key_and_stays_while_it_stays() -> None:
    texts = [f"text number {number}" for number in range(150)]

    async def drawn(key: bytes) -> list[bool]:
        pipeline = fake_pipeline(policies=[fake_policy("[route]\naudit_rate = 0.2")])
        pipeline.audit_key = key
        responses = [await pipeline.check(CheckRequest(text=text)) for text in texts]
        await pipeline.close()
        assert all(response.route.escalated for response in responses if response.route.audited)
        return [response.route.audited for response in responses]

    one, again, other, none = [await drawn(key) for key in (b"one", b"one", b"other", b"")]
    assert one == again
    assert 10 < sum(one) < 60
    assert len({tuple(found) for found in (one, other, none)}) == 3


async def test_a_text_that_another_reason_escalates_is_drawn_all_the_same() -> None:
    """Else those that are drawn would be no random sample of all."""
    pipeline = fake_pipeline(policies=[fake_policy("[route]\naudit_rate = 0.2")])
    texts = [f"terrible text number {number}" for number in range(150)]
    routes = [(await pipeline.check(CheckRequest(text=text))).route for text in texts]
    await pipeline.close()
    assert {RouteReason.Name(route.reason) for route in routes} == {"ROUTE_REASON_FLAGGED"}
    assert 10 < sum(route.audited for route in routes) < 60


async def test_an_answer_says_what_its_scores_hang_on() -> None:
    policies = [fake_policy(), fake_policy('[merge]\nsegments = "length_calibrated"', name="pooled")]

    async def scoring(stage1: FakeStage | None = None, **asked: Any) -> list[str]:
        pipeline = fake_pipeline(stage1, policies=policies)
        response = await pipeline.check(CheckRequest(text="a terrible day", **asked))
        await pipeline.close()
        return [stage.scoring for stage in response.stages]

    first, second = await scoring()
    assert await scoring() == [first, second], "it is the same in every process"
    calibrated = FakeStage(calibration=Calibration(unsafe=Platt(1.1, 0.0), labels=(Platt(),) * 7))
    assert (await scoring(calibrated))[0] != first
    assert (await scoring(calibrated))[1] == second
    assert not {first, second} & set(await scoring(policy="pooled"))
    files = FakeStage("tinysafe")
    files.info = replace(files.info, files={"model.onnx": "1" * 64})
    assert (await scoring(files))[0] != first


async def test_a_length_penalty_lowers_long_texts_only() -> None:
    stage = FakeStage(calibration=Calibration(unsafe=Platt(2.0, 0.5), labels=(Platt(),) * 7, length_penalty=0.25))
    policy = fake_policy('[merge]\nrule = "max"\nsegments = "length_calibrated"')
    short = await check("unsure", stage1=stage, policies=[policy], alone=True)
    assert short.stages[0].unsafe_probability == pytest.approx(sigmoid(-1.0))
    assert short.stages[0].calibrated_probability == pytest.approx(sigmoid(2.0 * -1.0 + 0.5))
    text = " ".join(["unsure"] * 100)
    pooled = length_calibrated(-1.0, len(stage.encode(text).windows), 0.25)
    long = await check(text, stage1=stage, policies=[policy], alone=True)
    assert long.stages[0].calibrated_probability == pytest.approx(sigmoid(2.0 * pooled + 0.5))
    assert long.stages[0].unsafe_probability == pytest.approx(sigmoid(-1.0))


async def test_spans_point_at_the_evidence_worst_first() -> None:
    fine, prompt = "fine " * 40, "a terrible idea"
    response_text = fine + "unsure " + fine
    request = check_request(prompt, response_text, explain=True)
    response = await check(request)
    assert [(span.field, span.stage) for span in response.spans[:2]] == [
        ("exchange.prompt", "stage1"),
        ("exchange.prompt", "stage2"),
    ]
    assert [span.score for span in response.spans] == sorted((span.score for span in response.spans), reverse=True)
    assert (response.spans[0].start, response.spans[0].end) == (0, len(prompt))
    assert response.spans[0].score == pytest.approx(sigmoid(WORDS["terrible"]))
    assert {span.field for span in response.spans} == {"exchange.prompt"}, "far weaker evidence is not named"
    inside = (await check(check_request(response_text, explain=True), alone=True)).spans
    assert all("unsure" in response_text[span.start : span.end] for span in inside)
    assert inside


async def test_a_place_that_two_views_show_is_named_once_with_its_worst_score() -> None:
    stage = FakeStage(words={"c\u0430t": 3.0, "cat": 1.0})
    response = await check(check_request("a c\u0430t", explain=True), stage1=stage, alone=True)
    assert [(span.start, span.end) for span in response.spans] == [(0, 5)]
    assert response.spans[0].score == pytest.approx(sigmoid(3.0))


async def test_spans_of_both_stages_stand_worst_first() -> None:
    request = check_request("a bad idea", explain=True)
    response = await check(request, stage2=FakeStage("hazard", words={"bad": 4.0}))
    assert [span.stage for span in response.spans] == ["stage2", "stage1"]


async def test_there_are_no_spans_unless_asked_for() -> None:
    assert not (await check("a terrible idea")).spans


async def test_a_hazards_own_action_overrides_and_is_named() -> None:
    policy = fake_policy('[hazards.child_exploitation]\nthreshold = 0.2\naction = "BLOCK"\n')
    calm = FakeStage("hazard", words={})
    response = await check("unsure child_exploitation", stage2=calm, policies=[policy])
    assert judged(response) == ("UNSAFE", "BLOCK")
    assert response.override_rule == "hazards.child_exploitation"


@pytest.mark.parametrize(
    ("asked", "verdict", "flagged"),
    [
        pytest.param([], "UNSAFE", ["privacy", "hate"], id="all"),
        pytest.param(["hate"], "UNSAFE", ["hate"], id="one that is there"),
        pytest.param(["elections"], "SAFE", [], id="one that is not"),
    ],
)
async def test_a_request_may_ask_about_some_hazards_only(asked: list[str], verdict: str, flagged: list[str]) -> None:
    response = await check(check_request("bad hate privacy", hazards=asked))
    assert judged(response)[0] == verdict
    assert [found.slug for found in response.hazards if found.flagged] == flagged
    assert hazard(response, "privacy").probability == pytest.approx(sigmoid(LABEL_ON))


async def test_narrowing_does_not_clear_what_no_hazard_explains() -> None:
    assert judged(await check(check_request("a bad day", hazards=["elections"]))) == ("UNSAFE", "BLOCK")


async def test_a_cascade_of_one_decides_by_stage_1s_threshold() -> None:
    response = await check("a bad day", alone=True)
    assert judged(response) == ("UNSAFE", "BLOCK")
    assert (response.route.escalated, reason(response)) == (False, "FLAGGED")
    assert (response.degraded, response.merge_rule) == (False, "stage1")
    assert judged(await check("unsure", alone=True)) == ("SAFE", "ALLOW")


async def test_each_score_is_measured_by_the_threshold_of_its_own_scale() -> None:
    between = {"middling": 0.35}  # probability 0.59: below stage 1's threshold of 0.62, above stage 2's of 0.55
    assert judged(await check("middling", stage1=FakeStage(words=between), alone=True))[0] == "CONTROVERSIAL"
    both = await check("middling", stage1=FakeStage(words=between), stage2=FakeStage("hazard", words=between))
    assert judged(both)[0] == "UNSAFE"


def broken(error: BaseException) -> Callable[[Sequence[Window]], BaseException]:
    return lambda windows: error


@pytest.mark.parametrize("error", [StageError("no"), UnavailableError("down"), ValueError("a user's text")])
@pytest.mark.parametrize(
    ("on_error", "verdict", "override"),
    [
        ("block", ("UNSAFE", "BLOCK"), "stage2.on_error"),
        ("allow", ("SAFE", "ALLOW"), "stage2.on_error"),
        ("stage1_only", ("UNSAFE", "BLOCK"), ""),
    ],
)
async def test_a_failed_stage_2_is_ruled_on_by_the_policy(
    error: Exception, on_error: str, verdict: tuple[str, str], override: str, caplog: pytest.LogCaptureFixture
) -> None:
    policy = fake_policy(f'[stage2]\non_error = "{on_error}"')
    response = await check("a bad day", stage2=FakeStage("hazard", fail=broken(error)), policies=[policy])
    assert judged(response) == verdict
    assert response.override_rule == override
    assert (response.degraded, response.merge_rule) == (True, "stage1")
    assert response.degraded_reason == f"stage2: {getattr(error, 'reason', 'STAGE_FAILED')}"
    assert (response.route.escalated, reason(response)) == (True, "STAGE2_UNAVAILABLE")
    assert response.unsafe_probability == pytest.approx(sigmoid(WORDS["bad"]))
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_stage_1_alone_may_find_a_text_safe_that_stage_2_was_wanted_for() -> None:
    policy = fake_policy('[stage2]\non_error = "stage1_only"')
    failing = FakeStage("hazard", fail=broken(StageError("no")))
    assert judged(await check("unsure", stage2=failing, policies=[policy])) == ("SAFE", "ALLOW")


@pytest.mark.parametrize(
    ("on_error", "verdict", "probability"), [("block", ("UNSAFE", "BLOCK"), 1.0), ("allow", ("SAFE", "ALLOW"), 0.0)]
)
async def test_a_failed_stage_1_is_ruled_on_by_the_policy(
    on_error: str, verdict: tuple[str, str], probability: float
) -> None:
    policy = fake_policy(f'[stage1]\non_error = "{on_error}"')
    response = await check("a fine day", stage1=FakeStage(fail=broken(StageError("no"))), policies=[policy])
    assert judged(response) == verdict
    assert response.unsafe_probability == probability
    assert (response.degraded, response.degraded_reason) == (True, "stage1: STAGE_FAILED")
    assert (response.route.escalated, list(response.route.triggers)) == (False, ["stage1_failed"])
    assert (response.coverage.truncated, list(response.stages), response.merge_rule) == (True, [], "")
    assert len(response.hazards) == 14


async def test_a_stage_that_cannot_read_a_text_has_failed() -> None:
    class Illiterate(FakeStage):
        def encode(self, text: str):
            raise RuntimeError(text)

    response = await check("a secret", stage1=Illiterate())
    assert (judged(response), response.degraded) == (("UNSAFE", "BLOCK"), True)
    assert "secret" not in str(response)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (CheckRequest(), InvalidRequestError),
        (CheckRequest(text=""), InvalidRequestError),
        (CheckRequest(text="a", policy="nobody's"), NotFoundError),
        (CheckRequest(text="a", options=CheckOptions(adapter="mine")), NotFoundError),
        (CheckRequest(text="a", options=CheckOptions(hazards=["S1"])), InvalidRequestError),
        (CheckRequest(text="a" * 1_000_001), LimitExceededError),
    ],
)
async def test_what_cannot_be_judged_raises(request_: CheckRequest, error: type[Exception]) -> None:
    with pytest.raises(error):
        await check(request_)


@pytest.mark.parametrize("text", [" ", "\n", "\0", "bad\0", "\u200b", "\U0001f600", "\ufffd", "a\u0301" * 50, "𝐛𝐚𝐝"])
async def test_odd_texts_get_an_answer(text: str) -> None:
    response = await check(text)
    assert response.verdict in (Verdict.VERDICT_SAFE, Verdict.VERDICT_UNSAFE)
    assert response.coverage.segments == 1


async def test_a_book_is_judged_while_sentences_go_on() -> None:
    pipeline = fake_pipeline(FakeStage(window_words=100), FakeStage("hazard", window_words=100))
    book = asyncio.create_task(pipeline.check(CheckRequest(text="word " * 60_000 + "bad")))
    sentences = 0
    while not book.done():
        await asyncio.wait_for(pipeline.check(CheckRequest(text="hello")), 10)
        sentences += 1
    assert judged(await book) == ("UNSAFE", "BLOCK")
    assert sentences > 2
    await pipeline.close()


async def test_a_text_of_more_windows_than_the_queue_holds_is_refused_by_name() -> None:
    pipeline = fake_pipeline(queue=10)
    with pytest.raises(LimitExceededError, match="windows of text than the limit of 10"):
        await pipeline.check(CheckRequest(text="word " * 500))
    await pipeline.close()


async def test_deadline_and_overload_raise() -> None:
    pipeline = fake_pipeline(FakeStage(delay_s=0.2), queue=1)
    with pytest.raises(DeadlineError):
        await pipeline.check(CheckRequest(text="a"), deadline=asyncio.get_running_loop().time() + 0.02)
    tasks = [asyncio.create_task(pipeline.check(CheckRequest(text="a"))) for _ in range(5)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {CheckResponse, OverloadedError}
    await pipeline.close()
    with pytest.raises(UnavailableError):
        await pipeline.check(CheckRequest(text="a"))


async def test_a_stage_2_that_is_too_slow_for_the_deadline_is_ruled_on_by_the_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cascade.pipeline.REPLY_S", 1.0)  # a busy machine comes late to its timers
    verdicts = {"block": ("UNSAFE", "BLOCK"), "allow": ("SAFE", "ALLOW"), "stage1_only": ("SAFE", "ALLOW")}
    policies = [fake_policy(f'[stage2]\non_error = "{on_error}"', name=on_error) for on_error in verdicts]
    opened = threading.Event()
    stage2 = FakeStage("hazard", fail=lambda call: None if opened.wait(60) else TimeoutError())
    pipeline = fake_pipeline(stage2=stage2, policies=policies, threads=3)
    now = asyncio.get_running_loop().time
    deadline = now() + 5
    checks = [pipeline.check(CheckRequest(text="unsure", policy=name), deadline=deadline) for name in verdicts]
    responses = await asyncio.gather(*checks)
    assert now() < deadline, "there is time for the answers' way back"
    assert [judged(response) for response in responses] == list(verdicts.values())
    for response in responses:
        assert (response.degraded, response.degraded_reason) == (True, "stage2: DEADLINE_EXCEEDED")
        assert (response.route.escalated, reason(response)) == (True, "STAGE2_UNAVAILABLE")
    opened.set()
    await pipeline.close()


@pytest.mark.parametrize("on_error", ["block", "stage1_only"])
async def test_stage_1_alone_answers_for_an_overloaded_stage_2_only_where_the_policy_wants_it(on_error: str) -> None:
    policy = fake_policy(f'[stage2]\non_error = "{on_error}"')
    opened, entered = threading.Event(), threading.Event()

    def wait(call: object) -> None:
        entered.set()
        assert opened.wait(30)

    stage2 = FakeStage("hazard", fail=wait)
    pipeline = fake_pipeline(stage2=stage2, policies=[policy], queue=1)
    busy = asyncio.create_task(pipeline.check(CheckRequest(text="unsure")))
    await asyncio.to_thread(entered.wait, 30)
    waiting = asyncio.create_task(pipeline.stages["stage2"].score(stage2.encode("unsure").windows))
    await asyncio.sleep(0)
    check = pipeline.check(CheckRequest(text="unsure"))
    if on_error == "block":
        with pytest.raises(OverloadedError):
            await check
    else:
        response = await check
        assert (response.degraded, response.degraded_reason) == (True, "stage2: OVERLOADED")
        assert judged(response) == ("SAFE", "ALLOW")
    opened.set()
    assert not (await busy).degraded
    assert len((await waiting).scores) == 1
    await pipeline.close()


async def test_policies_are_chosen_by_name() -> None:
    lax = fake_policy('[merge]\nrule = "max"\nmode = "loose"\n[stage2]\nunsafe_threshold = 0.99', name="lax")
    pipeline = fake_pipeline(policies=[fake_policy(), lax])
    strict, loose = [await pipeline.check(CheckRequest(text="bad", policy=name)) for name in ("", "lax")]
    assert (judged(strict)[0], judged(loose)[0]) == ("UNSAFE", "SAFE")
    assert loose.policy_revision == lax.revision
    await pipeline.close()


async def test_requests_keep_their_ids_and_get_one_if_they_have_none() -> None:
    assert (await check(CheckRequest(text="a", request_id="mine"))).request_id == "mine"
    request = CheckRequest(text="a")
    assert len((await check(request)).request_id) == 32
    assert request == CheckRequest(text="a"), "the request is left as it was"


async def test_many_requests_at_once_each_get_the_answer_they_would_get_alone() -> None:
    pipeline = fake_pipeline(threads=2)
    texts = [f"{word} {number} " * (1 + number % 40) for number, word in enumerate(["fine", "bad", "unsure hate"] * 20)]

    def facts(response: CheckResponse) -> tuple[object, ...]:
        return (response.verdict, response.unsafe_probability, str(response.hazards), response.coverage.tokens_total)

    together = await asyncio.gather(*(pipeline.check(CheckRequest(text=text)) for text in texts))
    for text, response in zip(texts, together, strict=True):
        assert facts(await pipeline.check(CheckRequest(text=text))) == facts(response)
    await pipeline.close()


async def test_the_json_form_is_camel_case_with_defaults() -> None:
    form = to_dict(await check("a fine day"))
    assert (form["verdict"], form["action"]) == ("VERDICT_SAFE", "ACTION_ALLOW")
    assert form["route"] == {"escalated": False, "reason": "ROUTE_REASON_PASSED", "triggers": [], "audited": False}
    assert form["coverage"] == {"tokensTotal": "3", "tokensScored": "3", "segments": 1, "truncated": False}
    assert form["degraded"] is False
    assert "probability" not in form["hazards"][0]
    json.dumps(form)
