"""A long answer is flagged about when its whole prefix is, at no more than twice one check: scripted scores, no clock.

The stage cuts as the embedded one does: windows of 222 tokens share 32, and the last one ends where the text does. How
unsafe a window is depends on how many of its words are murky, so that no chunk and no single word decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest

from cascade.content import check_request
from cascade.merging.segments import length_calibrated
from cascade.pipeline import Pipeline
from cascade.streaming import Moderation
from cascade.v1.cascade_service_pb2 import ModerateStart, ModerateStreamResponse
from cascade.v1.check_pb2 import ACTION_BLOCK
from stages.stage import Calibration, Encoding, Window, sigmoid
from tests.fakes import CALM, CLS, SEP, FakeStage, fake_pipeline, fake_policy, word_id

SIZE, STEP, PENALTY = 222, 190, 0.3
THRESHOLD = 0.775
IN_TIME = 32
MURK = 40  # words of a murky passage
WEIGHT = 0.25  # that each of them adds to the logit
MURKY = word_id("murky")
POLICY = f"""
[stage1]
unsafe_threshold = {THRESHOLD}
[merge]
rule = "max"
segments = "length_calibrated"
"""


class Scripted(FakeStage):
    """Cuts as TinySafe does; the more murky words a window has, the worse it is."""

    def __init__(self, *, matures: int = 0) -> None:
        """``matures``: in a long window so many words must follow a murky passage before it counts in full."""
        super().__init__("tinysafe", window_words=SIZE, calibration=Calibration(length_penalty=PENALTY))
        self._matures = matures

    def encode(self, text: str) -> Encoding:
        words = text.split()
        starts = [0]
        while starts[-1] + SIZE < len(words):
            starts.append(min(starts[-1] + STEP, len(words) - SIZE))
        places = [0]
        for word in words:
            places.append(places[-1] + len(word) + 1)
        windows = []
        for start in starts:
            ids = [identity(word) for word in words[start : start + SIZE]]
            end = len(text) if start + SIZE >= len(words) else places[start + SIZE]
            windows.append(Window((CLS, *ids, SEP), places[start], end))
        return Encoding(tuple(windows), tokens=len(words))

    def logit(self, ids: Sequence[int]) -> float:
        """A window's unsafe logit."""
        murky = [place for place, token in enumerate(ids) if token == MURKY]
        if not murky:
            return CALM
        followed = len(ids) - 2 - murky[-1]
        diluted = len(ids) > 2 * IN_TIME and followed < self._matures
        return CALM + WEIGHT * len(murky) * (0.5 if diluted else 1.0)

    def _score(self, window: Window):
        score = super()._score(window)
        return type(score)(self.logit(window.ids), score.labels)


identity = cache(word_id)


def answer(length: int, place: int) -> list[str]:
    """An answer of so many words with a murky passage at a place; calm words differ, so that no window is known."""
    words = [f"word{number}" for number in range(length)]
    words[place : place + MURK] = ["murky"] * MURK
    return words


def blocks(stage: Scripted, words: Sequence[str]) -> bool:
    """Whether a check of the whole blocks these words."""
    logits = [stage.logit(window.ids) for window in stage.encode(" ".join(words)).windows]
    return sigmoid(length_calibrated(max(logits), len(logits), PENALTY)) >= THRESHOLD


def first_prefix(stage: Scripted, words: Sequence[str], place: int) -> int:
    """How many words the first prefix has that a check of the whole blocks."""
    return next(end for end in range(place, len(words) + 1) if blocks(stage, words[:end]))


async def moderate(pipeline: Pipeline, words: Sequence[str]) -> tuple[int | None, list[ModerateStreamResponse], int]:
    """With how many words a stream that comes word by word flags, all its answers, and the tokens it cost."""
    moderation = Moderation(pipeline, ModerateStart())
    states, flagged = [], None
    for count, word in enumerate(words, start=1):
        if state := await moderation.add(f"{word} "):
            states.append(state)
            if state.verdict.action == ACTION_BLOCK and flagged is None:
                flagged = count
        if moderation.blocked:
            return flagged, states, moderation.scored_tokens
    states.append(await moderation.finish())
    if states[-1].verdict.action == ACTION_BLOCK and flagged is None:
        flagged = len(words)
    return flagged, states, moderation.scored_tokens


async def lag(stage: Scripted, words: Sequence[str], place: int) -> int:
    """Tokens from the first prefix that blocks to the place where the stream flags."""
    pipeline = fake_pipeline(stage, alone=True, policies=[fake_policy(POLICY)])
    flagged, states, _ = await moderate(pipeline, words)
    await pipeline.close()
    assert flagged is not None, "never flagged"
    assert states[-1].final
    shown = " ".join(words)[: states[-1].released_upto].split()
    assert len(shown) <= flagged, "what came after the flag is not shown"
    assert not blocks(stage, shown), "what is shown is nothing that a check blocks"
    return flagged - first_prefix(stage, words, place)


OFFSETS = (0, 9, 18, 27)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("length", [100, 400, 1000, 2000])
async def test_it_flags_within_32_tokens_of_the_whole_prefix(length: int, offset: int) -> None:
    place = length * 6 // 10 - offset
    words = answer(length, place)
    assert -IN_TIME <= await lag(Scripted(), words, place) <= IN_TIME


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("length", [1000, 2000])
async def test_a_passage_that_counts_only_when_more_has_followed_is_flagged_in_time_too(
    length: int, offset: int
) -> None:
    place = length * 6 // 10 - offset
    words = answer(length, place)
    stage = Scripted(matures=70)
    assert first_prefix(stage, words, place) == place + MURK + 70, "long after the last chunk that is murky"
    assert await lag(stage, words, place) <= IN_TIME


async def cost(words: Sequence[str]) -> tuple[float, list[ModerateStreamResponse]]:
    """Tokens of a stream in checks of the whole, and what it answered."""
    once, growing = Scripted(), Scripted()
    pipeline = fake_pipeline(once, alone=True, policies=[fake_policy(POLICY)])
    await pipeline.check(check_request(" ".join(words)))
    await pipeline.close()
    pipeline = fake_pipeline(growing, alone=True, policies=[fake_policy(POLICY)])
    _, states, tokens = await moderate(pipeline, words)
    await pipeline.close()
    assert tokens == sum(len(window) for call in growing.calls for window in call)
    return tokens / sum(len(window) for call in once.calls for window in call), states


@pytest.mark.parametrize(
    ("hint", "places"),
    [
        pytest.param(0, range(0), id="calm"),
        pytest.param(20, range(100, 2000, 250), id="all along there is what might make the whole unsafe"),
        pytest.param(22, range(600, 2000, 250), id="all along there is what by itself is unsafe"),
        pytest.param(22, range(1250, 2000, 250), id="late there is what by itself is unsafe"),
    ],
)
async def test_2000_tokens_cost_at_most_twice_one_check_whatever_they_hint_at(hint: int, places: range) -> None:
    words = [f"word{number}" for number in range(2000)]
    for place in places:
        words[place : place + hint] = ["murky"] * hint
    times, states = await cost(words)
    assert times <= 2
    assert states[-1].verdict.action != ACTION_BLOCK
    assert states[-1].released_upto == len(" ".join(words)) + 1
    assert len({state.released_upto for state in states}) > 12, "it was released bit by bit"
