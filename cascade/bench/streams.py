"""How soon a moderated stream flags, and what it costs: *labelled rows, pipeline* -> report by kind of generation.

A generation is harmless text with an unsafe row somewhere in it, or the response of an unsafe row that has one, written
word by word. It is set against a check of the whole prefix every 32 tokens, which is as soon as anything could flag it
and costs many times more. Harmless generations tell what a stream costs, in tokens that each stage scores and in time,
against one check of the whole text. One generation may be escalated by the stream and not by the check, or the other
way round, so stage 2's tokens, and the time of both stages, are told as sums over all generations too.

A prefix may block where the next one does not: one cut more or less. So the stream is also set against the prefixes
that block twice in a row, which is what ends a stream, and what a moderation of whole prefixes with the same debounce
would go by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from time import perf_counter
from typing import Any

import numpy as np

from cascade.bench.lengths import document, readable
from cascade.bench.sample import OnRow, drawn
from cascade.evaluate.rows import Row
from cascade.memory import Memory
from cascade.pipeline import Pipeline
from cascade.streaming import Moderation
from cascade.v1.cascade_service_pb2 import ModerateStart
from cascade.v1.check_pb2 import ACTION_BLOCK, CheckRequest

LENGTHS = (0, 100, 400, 1500)  # words of harmless text around the unsafe row; 1,500 make about 2,000 tokens
GRAIN = 32  # tokens between two checks of a whole prefix
IN_TIME = 32  # tokens that a stream may lag behind
SHORTEST = 100  # words of a harmless generation


@dataclass(frozen=True)
class Generation:
    """A text that is written in answer to a prompt, which may be empty."""

    prompt: str
    text: str

    def upto(self, place: int) -> CheckRequest:
        """A check of the prompt and of the first code points of the answer."""
        request = CheckRequest()
        request.exchange.prompt, request.exchange.response = self.prompt, self.text[:place]
        return request


@dataclass(frozen=True)
class Streamed:
    """Where a stream flagged, in code points of the answer, None if nowhere; tokens by stage and seconds it took."""

    flagged: int | None
    tokens: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Prefix:
    """The first prefix that blocks, and the first that blocks as the next one or the whole does too; None if none."""

    once: int | None
    twice: int | None


@dataclass(frozen=True)
class Kind:
    """Generations of one kind: unsafe ones, and harmless ones of about their length."""

    name: str
    unsafe: tuple[Generation, ...]
    harmless: tuple[Generation, ...]


def kinds(
    unsafe: Sequence[Row], harmless: Sequence[Row], *, generations: int, lengths: Sequence[int], seed: int
) -> Iterator[Kind]:
    """Makes the generations; responses come first, and where every unsafe row has one they are all.

    Raises:
        DataError: no harmless or no unsafe row is a text that is long enough to count its words.
    """
    pairs = [
        tuple(drawn([Generation(row.text, row.response) for row in rows if row.response], generations, seed))
        for rows in (unsafe, harmless)
    ]
    if pairs[0]:
        yield Kind("responses", pairs[0], pairs[1])
    if pairs[0] and all(row.response is not None for row in unsafe):
        return
    calm, payloads = readable(harmless), readable(unsafe)
    for words in lengths:
        rng = Random(f"{seed} {words}")
        loaded = [Generation("", document(calm, words, rng, rng.choice(payloads))) for _ in range(generations)]
        plain = [Generation("", document(calm, max(words, SHORTEST), rng)) for _ in range(generations)]
        yield Kind(f"{words} words around", tuple(loaded), tuple(plain))


async def measure(found: Sequence[Kind], pipeline: Pipeline, *, on_row: OnRow = lambda: None) -> list[dict[str, Any]]:
    """A report for each kind; one generation at a time, so that its time is its own.

    Raises:
        CascadeError: as :meth:`Pipeline.check`.
    """
    return [await _measure(kind, pipeline, on_row) for kind in found]


async def _measure(kind: Kind, pipeline: Pipeline, on_row: OnRow) -> dict[str, Any]:
    lags: dict[str, list[int | None]] = {"once": [], "twice": []}
    by_stream_alone = 0
    for generation in kind.unsafe:
        prefix = await whole_prefix(pipeline, generation)
        streamed = await stream(pipeline, generation)
        by_stream_alone += prefix.once is None and streamed.flagged is not None
        for name, place in (("once", prefix.once), ("twice", prefix.twice)):
            if place is not None:
                lags[name].append(_lag(pipeline, generation, streamed.flagged, place))
        on_row()
    costs: list[tuple[Streamed, Streamed]] = []
    for generation in kind.harmless:
        once = await _check(pipeline, generation)
        costs.append((await stream(pipeline, generation), once))
        on_row()
    tokens = [streamed.tokens["stage1"] / once.tokens["stage1"] for streamed, once in costs]
    seconds = [streamed.seconds / once.seconds for streamed, once in costs]
    return {
        "kind": kind.name,
        "unsafe": len(kind.unsafe),
        "flagged_by_whole_prefix": {name: _lags(found) for name, found in lags.items()},
        "by_the_stream_alone": by_stream_alone,
        "harmless": len(kind.harmless),
        "harmless_flagged": sum(streamed.flagged is not None for streamed, _ in costs),
        "tokens_against_one_check": float(np.median(tokens)) if tokens else None,
        "most_tokens_against_one_check": max(tokens, default=None),
        "time_against_one_check": float(np.median(seconds)) if seconds else None,
        "tokens": {
            stage: _summed([(streamed.tokens[stage], once.tokens[stage]) for streamed, once in costs])
            for stage in pipeline.stages
        },
        "seconds": _summed([(streamed.seconds, once.seconds) for streamed, once in costs]),
    }


def _summed(costs: Sequence[tuple[float, float]]) -> dict[str, float | None]:
    """What all streams cost together and one check of each, and the quotient; None where the checks cost nothing."""
    streams, checks = (sum(cost[side] for cost in costs) for side in (0, 1))
    return {"streams": streams, "checks": checks, "ratio": streams / checks if checks else None}


def _lag(pipeline: Pipeline, generation: Generation, flagged: int | None, place: int) -> int | None:
    return None if flagged is None else _tokens(pipeline, generation, flagged) - _tokens(pipeline, generation, place)


def _lags(lags: Sequence[int | None]) -> dict[str, Any]:
    known = [lag for lag in lags if lag is not None]
    return {
        "count": len(lags),
        "in_time": sum(lag <= IN_TIME for lag in known),
        "later": sorted(lag for lag in known if lag > IN_TIME),
        "never": len(lags) - len(known),
    }


async def whole_prefix(pipeline: Pipeline, generation: Generation, grain: int = GRAIN) -> Prefix:
    """Checks every prefix whose length is a multiple of ``grain`` tokens, roughly, and the whole."""
    memory, read = Memory(), 0
    stage = pipeline.stages["stage1"].stage
    if generation.prompt and (await pipeline.check(generation.upto(0), memory=memory)).action == ACTION_BLOCK:
        return Prefix(0, 0)
    once: int | None = None
    flagged: int | None = None
    for word in re.finditer(r"\S+\s*", generation.text):
        place, last = word.end(), word.end() == len(generation.text)
        if not last and stage.encode(generation.text[read:place]).tokens < grain:
            continue
        read = place
        blocks = (await pipeline.check(generation.upto(place), memory=memory)).action == ACTION_BLOCK
        memory.turn()
        if blocks and (last or flagged is not None):
            twice = place if flagged is None else flagged
            return Prefix(twice if once is None else once, twice)
        flagged = place if blocks else None
        once = flagged if once is None else once
    return Prefix(once, None)


async def stream(pipeline: Pipeline, generation: Generation) -> Streamed:
    """Moderates a generation that comes word by word."""
    moderation = Moderation(pipeline, ModerateStart(prompt=generation.prompt))
    started = perf_counter()
    place, flagged = 0, None
    state = await moderation.open()
    for word in [*re.findall(r"\s*\S+\s*", generation.text), None]:
        if state and state.verdict.action == ACTION_BLOCK and flagged is None:
            flagged = place
        if moderation.blocked:
            break
        place += len(word or "")
        state = await (moderation.finish() if word is None else moderation.add(word))
    if state and state.verdict.action == ACTION_BLOCK and flagged is None:
        flagged = place
    return Streamed(flagged, moderation.scored_by_stage, perf_counter() - started)


async def _check(pipeline: Pipeline, generation: Generation) -> Streamed:
    """One check of the whole, for what it costs."""
    memory, started = Memory(), perf_counter()
    await pipeline.check(generation.upto(len(generation.text)), memory=memory)
    tokens = {name: memory.scored(batcher) for name, batcher in pipeline.stages.items()}
    return Streamed(None, tokens, perf_counter() - started)


def _tokens(pipeline: Pipeline, generation: Generation, place: int) -> int:
    return pipeline.stages["stage1"].stage.encode(generation.text[:place]).tokens
