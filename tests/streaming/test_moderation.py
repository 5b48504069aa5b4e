"""A generation that is moderated while it grows, on stages that words control."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import (
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    OverloadedError,
    StageError,
    UnavailableError,
)
from cascade.limits import Limits
from cascade.pipeline import Pipeline
from cascade.streaming import Moderation
from cascade.streaming.budget import Budget, Windows
from cascade.v1.cascade_service_pb2 import ModerateStart, ModerateStreamResponse
from cascade.v1.check_pb2 import (
    ACTION_ALLOW,
    ACTION_BLOCK,
    ACTION_REVIEW,
    VERDICT_CONTROVERSIAL,
    VERDICT_SAFE,
    VERDICT_UNSAFE,
    CheckOptions,
    CheckRequest,
    CheckResponse,
    Exchange,
)
from stages.registry import load_stage
from stages.stage import Calibration, Window
from tests.fakes import FakeStage, fake_pipeline, fake_policy, word_id

FINE = [f"word{number}" for number in range(3000)]


def stage1(**options: object) -> FakeStage:
    return FakeStage("tinysafe", window_words=222, **options)  # type: ignore[arg-type]


def two_stages(**options: object) -> Pipeline:
    return fake_pipeline(options.pop("stage1", None) or stage1(), FakeStage("hazard", window_words=190), **options)


def cut(text: str, every: int) -> list[str]:
    return [text[start : start + every] for start in range(0, len(text), every)]


async def moderate(
    pipeline: Pipeline, deltas: Iterable[str], start: ModerateStart | None = None
) -> tuple[list[ModerateStreamResponse], Moderation]:
    """All answers, as a server gives them."""
    moderation = Moderation(pipeline, start or ModerateStart(request_id="m"))
    states = [await moderation.open()]
    for delta in deltas:
        if moderation.blocked:
            break
        states.append(await moderation.add(delta))
    if not moderation.blocked:
        states.append(await moderation.finish())
    return [state for state in states if state], moderation


async def moderated(deltas: Iterable[str], start: ModerateStart | None = None, **options: object):
    pipeline = two_stages(**options)
    try:
        return (await moderate(pipeline, deltas, start))[0]
    finally:
        await pipeline.close()


def facts(answer: CheckResponse) -> tuple[object, ...]:
    """An answer without what differs from run to run."""
    copy = CheckResponse()
    copy.CopyFrom(answer)
    for stage in copy.stages:
        stage.tokenize_ms = stage.queue_ms = stage.infer_ms = 0
    copy.request_id = ""
    return copy.SerializeToString(deterministic=True), copy.verdict


async def test_a_calm_answer_is_released_bit_by_bit_and_in_the_end_whole() -> None:
    text = " ".join(FINE[:400])
    states = await moderated(cut(text, 7))
    released = [state.released_upto for state in states]
    assert released == sorted(released)
    assert released[-1] == len(text)
    assert len(set(released)) > 11
    assert [state.final for state in states] == [False] * (len(states) - 1) + [True]
    assert {state.verdict.verdict for state in states} == {VERDICT_SAFE}
    assert {state.request_id for state in states} == {"m"}
    assert all(text[upto - 1].isspace() for upto in released[:-1] if upto), "cuts lie between words"


async def test_nothing_is_shown_once_the_answer_turns_bad() -> None:
    calm, bad = " ".join(FINE[:200]), " terrible"
    text = calm + bad + " " + " ".join(FINE[200:400])
    states = await moderated(cut(text, 5))
    assert states[-1].verdict.verdict == VERDICT_UNSAFE
    assert states[-1].verdict.action == ACTION_BLOCK
    assert states[-1].final
    assert 0 < states[-1].released_upto <= len(calm)
    assert states[-1].verdict.coverage.tokens_total < 300, "a block ends the generation"


async def test_a_bad_word_shows_within_a_step_of_its_arrival_and_blocks_a_step_later() -> None:
    words = [*FINE[:300], "terrible", *FINE[300:600]]
    states = await moderated(word + " " for word in words)
    flagged = next(state for state in states if state.verdict.verdict == VERDICT_UNSAFE)
    assert flagged.verdict.coverage.tokens_total - 301 <= 32
    assert not flagged.final, "the debounce waits for a second reading"
    assert states[-1].verdict.coverage.tokens_total - 301 <= 64
    assert states[-1].final


async def test_a_chunk_that_only_looks_bad_by_itself_does_not_block() -> None:
    class Contextual(FakeStage):
        def _score(self, window: Window):
            excused = word_id("fiction") in window.ids
            score = super()._score(window)
            return type(score)(-4.0, score.labels) if excused else score

    contextual = Contextual("tinysafe", window_words=222)
    stage2 = Contextual("hazard", window_words=222)
    text = "fiction " + " ".join(FINE[:60]) + " terrible " + " ".join(FINE[60:120])
    pipeline = fake_pipeline(contextual, stage2)
    states, _ = await moderate(pipeline, cut(text, 6))
    await pipeline.close()
    assert {state.verdict.verdict for state in states} == {VERDICT_SAFE}
    assert states[-1].released_upto == len(text)


async def test_a_single_bad_reading_is_forgiven_when_the_next_one_clears_it() -> None:
    class Patient(FakeStage):
        def _score(self, window: Window):
            score = super()._score(window)
            return type(score)(-4.0, score.labels) if word_id("resolved") in window.ids else score

    words = ["terrible", *FINE[:30], "resolved", *FINE[30:90]]
    pipeline = fake_pipeline(Patient("tinysafe", window_words=222), Patient("hazard", window_words=222))
    states, _ = await moderate(pipeline, [word + " " for word in words])
    await pipeline.close()
    assert states[0].verdict.verdict == VERDICT_UNSAFE
    assert (states[0].final, states[0].released_upto) == (False, 0)
    assert states[-1].verdict.verdict == VERDICT_SAFE
    assert states[-1].released_upto == len(" ".join(words)) + 1


@pytest.mark.parametrize("hold", ["", "REVIEW", "BLOCK"])
async def test_the_policy_says_whether_what_is_to_be_reviewed_is_shown(hold: str) -> None:
    toml = '[merge]\nrule = "max"\ncontroversial_threshold = 0.2\n' + (f'[stream]\nhold = "{hold}"' if hold else "")
    text = " ".join([*FINE[:100], "unsure", *FINE[100:400]])
    states = await moderated(cut(text, 9), policies=[fake_policy(toml)])
    assert states[-1].verdict.verdict == VERDICT_CONTROVERSIAL
    assert states[-1].final
    if hold == "REVIEW":
        assert 0 < states[-1].released_upto < text.index("unsure")
    else:
        first = next(state for state in states if state.verdict.verdict == VERDICT_CONTROVERSIAL)
        assert first.verdict.action == ACTION_REVIEW, "the caller is told at once"
        assert len({state.released_upto for state in states}) > 8
        assert states[-1].released_upto == len(text)


async def test_what_later_text_clears_is_shown_after_all() -> None:
    class Patient(FakeStage):
        def _score(self, window: Window):
            score = super()._score(window)
            return type(score)(-4.0, score.labels) if word_id("resolved") in window.ids else score

    policy = fake_policy('[merge]\nrule = "max"\ncontroversial_threshold = 0.2\n[stream]\nhold = "REVIEW"')
    text = " ".join([*FINE[:60], "unsure", *FINE[60:120], "resolved", *FINE[120:150]])
    pipeline = fake_pipeline(Patient("tinysafe", window_words=222), alone=True, policies=[policy])
    states, _ = await moderate(pipeline, cut(text, 9))
    await pipeline.close()
    assert states[-1].verdict.verdict == VERDICT_SAFE
    assert max(state.released_upto for state in states if not state.final) > text.index("unsure")
    assert states[-1].released_upto == len(text)


class Apart(FakeStage):
    """Finds a window terrible that holds two words, however far apart: no chunk alone shows it."""

    def _score(self, window: Window):
        score = super()._score(window)
        both = {word_id("first-half"), word_id("second-half")} <= set(window.ids)
        return type(score)(5.0 if both else score.unsafe, score.labels)


@pytest.mark.parametrize(
    ("place", "prompt"),
    [
        (20, ""),
        (60, ""),
        (80, ""),
        (20, "a fine question"),
        (60, "a fine question"),
        (80, "a fine question"),
    ],
)
async def test_a_short_answer_is_flagged_as_soon_as_its_whole_prefix_is(place: int, prompt: str) -> None:
    words = ["first-half", *FINE[:place], "second-half", *FINE[place : place + 100]]
    pipeline = fake_pipeline(Apart("tinysafe", window_words=222), alone=True)
    states, _ = await moderate(pipeline, [word + " " for word in words], ModerateStart(prompt=prompt))
    await pipeline.close()
    flagged = next(state for state in states if state.verdict.verdict == VERDICT_UNSAFE)
    assert flagged.verdict.coverage.tokens_total - (place + 2) - len(prompt.split()) <= 32
    assert states[-1].released_upto < len(" ".join(words[: place + 2]))


@pytest.mark.parametrize("before", [80, 400])
async def test_in_a_longer_answer_it_shows_when_the_window_is_full(before: int) -> None:
    words = [*FINE[:before], "first-half", *FINE[400:460], "second-half", *FINE[460:1000]]
    pipeline = fake_pipeline(Apart("tinysafe", window_words=222), alone=True)
    states, _ = await moderate(pipeline, [word + " " for word in words])
    await pipeline.close()
    flagged = next(state for state in states if state.verdict.verdict == VERDICT_UNSAFE)
    assert 0 <= flagged.verdict.coverage.tokens_total - (before + 62) <= 222
    assert states[-1].final


async def test_chunks_that_are_all_a_little_bad_call_for_a_look_at_the_whole() -> None:
    stage = stage1(words={"murky": -0.1})
    policy = fake_policy('[merge]\nrule = "max"\ncontroversial_threshold = 0.5\n[stage1]\nunsafe_threshold = 0.62')
    words = [f"{word} murky" for word in FINE[:80]]
    pipeline = fake_pipeline(stage, alone=True, policies=[policy])
    await moderate(pipeline, [word + " " for word in words])
    looks = sum(len(window) > 60 for call in stage.calls for window in call)
    await pipeline.close()
    assert looks > 1, "more than the one at the end"


async def test_a_prompt_is_judged_first_and_blocks_at_once() -> None:
    (state,) = await moderated(["never read"], ModerateStart(prompt="a terrible question"))
    assert (state.final, state.released_upto, state.verdict.verdict) == (True, 0, VERDICT_UNSAFE)


async def test_a_prompt_counts_in_the_verdict_of_the_whole() -> None:
    states = await moderated(["a fine ", "answer"], ModerateStart(prompt="a fine question"))
    assert [state.verdict.coverage.tokens_total for state in states] == [3, 6]
    assert states[-1].released_upto == len("a fine answer")


async def test_an_answer_of_nothing_is_judged_by_its_prompt() -> None:
    states = await moderated([], ModerateStart(prompt="a fine question"))
    assert states[-1].final
    with pytest.raises(InvalidRequestError):
        await moderated(["", ""])


async def test_spans_point_into_the_whole_answer() -> None:
    text = " ".join([*FINE[:90], "terrible", *FINE[90:120]])
    start = ModerateStart(options=CheckOptions(explain=True))
    states = await moderated(cut(text, 11), start)
    spans = [span for state in states for span in state.verdict.spans if span.score > 0.9]
    assert spans
    assert {span.field for span in spans} == {"exchange.response"}
    assert all("terrible" in text[span.start : span.end] for span in spans)


@pytest.mark.parametrize(
    ("start", "error", "field"),
    [
        (ModerateStart(request_id="x" * 300), InvalidRequestError, "start.request_id"),
        (ModerateStart(options=CheckOptions(hazards=["boredom"])), InvalidRequestError, "start.options.hazards[0]"),
        (ModerateStart(policy="nobody's"), NotFoundError, None),
        (ModerateStart(options=CheckOptions(adapter="mine")), NotFoundError, None),
        (ModerateStart(prompt="x" * 1_000_001), LimitExceededError, None),
    ],
)
async def test_a_bad_start_is_refused_before_any_text(start: ModerateStart, error: type, field: str | None) -> None:
    with pytest.raises(error) as caught:
        await moderated(["text"], start)
    assert field is None or caught.value.field == field


async def test_an_answer_beyond_the_limit_is_refused_as_soon_as_it_is() -> None:
    limits = Limits(max_text_bytes=1000)
    start = ModerateStart(prompt="x" * 100)
    assert (await moderated(["é" * 450], start, limits=limits))[-1].final
    with pytest.raises(LimitExceededError):
        await moderated(["é" * 449, "é", "é"], start, limits=limits)


async def test_overload_refuses_a_start_but_only_delays_what_has_begun() -> None:
    pipeline = fake_pipeline(stage1(delay_s=0.05), queue=1, alone=True)
    busy = asyncio.create_task(pipeline.check(CheckRequest(text="a")))
    queued = asyncio.create_task(pipeline.check(CheckRequest(text="b")))
    await asyncio.sleep(0.01)
    with pytest.raises(OverloadedError):
        await Moderation(pipeline, ModerateStart(prompt="a question")).open()
    states, _ = await moderate(pipeline, ["an answer"])
    assert states[-1].verdict.action == ACTION_ALLOW
    await asyncio.gather(busy, queued)
    await pipeline.close()
    with pytest.raises(UnavailableError):
        await moderate(pipeline, ["an answer"])


async def test_a_stage_that_fails_closes() -> None:
    broken = stage1(fail=lambda windows: StageError("no"))
    states = await moderated(cut(" ".join(FINE[:100]), 5), stage1=broken)
    assert states[-1].final
    assert (states[-1].released_upto, states[-1].verdict.action) == (0, ACTION_BLOCK)
    assert states[-1].verdict.degraded


TEXTS = st.lists(
    st.sampled_from([*FINE[:40], "unsure", "bad", "c\u0430t", "e\u0301\u0327", "hate", "\u4f60\u597d", "b\u200bad"]),
    min_size=1,
    max_size=300,
)


@given(TEXTS, st.lists(st.integers(1, 400), max_size=30), st.sampled_from(["", "a question", "an unsure question"]))
async def test_however_it_is_cut_the_end_is_the_check_of_the_whole(
    words: list[str], lengths: list[int], prompt: str
) -> None:
    text = " ".join(words)
    places = [0, *itertools.takewhile(lambda place: place < len(text), itertools.accumulate(lengths)), len(text)]
    deltas = [text[start:end] for start, end in itertools.pairwise(places)]
    calibration = Calibration(length_penalty=0.0)
    pipeline = two_stages(stage1=stage1(calibration=calibration))
    states, moderation = await moderate(pipeline, deltas, ModerateStart(prompt=prompt))
    whole = await pipeline.check(CheckRequest(exchange=Exchange(prompt=prompt, response=text)))
    await pipeline.close()
    assert states[-1].verdict.verdict == whole.verdict
    if not moderation.blocked:
        assert facts(states[-1].verdict) == facts(whole)
    released = [state.released_upto for state in states]
    assert released == sorted(released)
    assert released[-1] == (len(text) if whole.action == ACTION_ALLOW else released[-1])


@given(st.lists(st.integers(1, 900), max_size=20))
async def test_nothing_is_released_that_was_not_scored(lengths: list[int]) -> None:
    text = " ".join(FINE[:600])
    stage = stage1()
    pipeline = two_stages(stage1=stage)
    moderation = Moderation(pipeline, ModerateStart())
    place = 0
    for length in [*lengths, len(text)]:
        state = await moderation.add(text[place : place + length])
        place += length
        if state:
            scored = {token for call in stage.calls for window in call for token in window.ids}
            assert {word_id(word) for word in text[: state.released_upto].split()} <= scored
    await pipeline.close()


def tokens(calls: Sequence[Sequence[Window]]) -> int:
    return sum(len(window) for call in calls for window in call)


@pytest.mark.parametrize("every", [1, 5, 64, 500, 5000, 100_000])
@pytest.mark.parametrize(("words", "prompt"), [(2000, ""), (2000, "a fine question " * 40), (3000, "")])
async def test_a_long_answer_costs_at_most_twice_one_check_of_the_whole(every: int, words: int, prompt: str) -> None:
    text = " ".join(FINE[:words])
    once, growing = stage1(), stage1()
    pipeline = fake_pipeline(once, alone=True)
    await pipeline.check(CheckRequest(exchange=Exchange(prompt=prompt, response=text)))
    await pipeline.close()
    pipeline = fake_pipeline(growing, alone=True)
    states, moderation = await moderate(pipeline, cut(text, every), ModerateStart(prompt=prompt))
    await pipeline.close()
    assert states[-1].released_upto == len(text)
    assert moderation.scored_tokens == tokens(growing.calls)
    assert tokens(growing.calls) <= 2 * tokens(once.calls)


async def test_the_embedded_stage_too_costs_at_most_twice() -> None:
    sentences = (
        "The old mill by the river grinds barley, oats and a little rye for the bakers in town.",
        "In spring the miller's daughter re-painted its shutters; nobody remembers their first colour.",
    )
    text = " ".join(sentences[number % 2].replace("river", f"river {number}") for number in range(95))
    loaded = load_stage("tinysafe")
    asked: list[int] = []

    class Counting:
        info, calibration, encode = loaded.info, loaded.calibration, staticmethod(loaded.encode)

        @staticmethod
        def score(windows: Sequence[Window]):
            asked.extend(map(len, windows))
            return [FakeStage._score(stage1(), window) for window in windows]

    whole = loaded.encode(text)
    assert 1900 < whole.tokens < 2200
    pipeline = fake_pipeline(Counting(), alone=True)  # type: ignore[arg-type]
    states, _ = await moderate(pipeline, cut(text, 4))
    await pipeline.close()
    assert states[-1].released_upto == len(text)
    assert len({state.released_upto for state in states}) > 40
    assert sum(asked) <= 2 * sum(map(len, whole.windows))


@pytest.mark.parametrize("name", ["tinysafe", "hazard"])
def test_how_a_stage_cuts_a_text_is_measured_right(name: str) -> None:
    loaded = load_stage(name)
    cut = Windows.of(loaded)
    windows = loaded.encode("a " * 2000).windows
    assert 2 * cut.size - 1 == windows[0].end
    assert windows[1].start in (2 * cut.step - 1, 2 * cut.step), "some begin with the space"
    assert Windows.of(stage1()) == Windows(222, 166)
    assert [Windows(222, 166).next_end(tokens) for tokens in (0, 221, 222, 387.5, 388)] == [222, 222, 388, 388, 554]


def test_a_budget_allows_some_windows_and_a_share_of_the_text() -> None:
    plain, asked = Budget(window=224), Budget(window=224, prompt=50, prompt_length=200)
    assert plain.affords(912, spent=0, read=52, whole=0)
    assert not plain.affords(913, spent=0, read=52, whole=0)
    assert not plain.affords(912, spent=1, read=52, whole=0)
    assert plain.affords(3000, spent=0, read=52, whole=3000), "what a check of a long text costs may be spent twice"
    assert asked.affords(224 * 4.9 + 0.75 * 50 - 1, spent=0, read=0, whole=0)
    assert (plain.look(100), plain.look(1000)) == (100, 224)
    assert asked.look(100) == 100 + 150, "the joint reading grows, too"
    assert asked.look(1000) == 224, "as far as it reaches"
