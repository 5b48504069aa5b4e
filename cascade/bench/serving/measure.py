"""Trials of one server: *sender, settings* -> what it did at a rate, and the highest rate at which it was in time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator, default_rng

from cascade.bench.phrases import SENTENCES
from cascade.bench.serving.arrivals import poisson
from cascade.bench.serving.drive import Call, CallError, Send, Trial, drive
from cascade.bench.serving.figures import figures, in_time
from cascade.bench.serving.floor import BareTimes
from cascade.bench.serving.mixes import Mix
from cascade.bench.serving.process import Server, ServerFailedError
from cascade.bench.serving.rates import highest_rate
from cascade.bench.serving.texts import Text, Writer

IN_TIME = 0.99  # of all calls: the p99 is within the limit
SETTLE_S = 60.0
TOO_MANY = 4.0  # limits' worth of arrivals that are open at once: more than one in a hundred of a trial is late by then
SPARE = 64  # calls that may be open at any rate

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Limit:
    """What counts as in time: ``ms``, or ``slack`` times what the bare session takes for that text, if that is more."""

    ms: float
    slack: float = 0.0
    bare: BareTimes | None = None

    def seconds(self, tokens: int) -> float:
        """For a text of so many tokens."""
        return 1e-3 * max(self.ms, self.slack * self.bare.of(tokens) if self.bare else 0.0)


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: ``texts`` in random order, in trials of so many seconds, after so many of warm-up."""

    texts: Sequence[Text]
    limit: Limit
    seconds: float
    warm_up_s: float
    seed: int
    timeout_s: float = 10.0

    def calls(self, rate: float, seconds: float, rng: Generator) -> list[Call]:
        """Poisson arrivals, each with the next text of a shuffled pool."""
        texts = self._texts(rng)
        return [
            Call(due, text.text, text.tokens) for due, text in zip(poisson(rate, seconds, rng), texts, strict=False)
        ]

    def _texts(self, rng: Generator) -> Iterator[Text]:
        while True:
            for index in rng.permutation(len(self.texts)):
                yield self.texts[index]


def pool(mix: Mix, writer: Writer, seed: int, size: int) -> list[Text]:
    """So many texts with the lengths of a mix."""
    rng = default_rng(seed)
    return [writer.write(tokens, rng) for tokens in mix.lengths(size)]


class Bench:
    """Trials of one server, each with arrivals of its own.

    Args:
        send: makes a call.
        load: what is sent.
        server: whose CPU time and memory is looked at; None where it is not ours to see.
        run: gives each run its own arrivals, the same for every server.
        tell: is told how it goes.
    """

    def __init__(self, send: Send, load: Load, server: Server | None, run: int, tell: Told) -> None:
        self._send, self._load, self._server, self._tell = send, load, server, tell
        self._rng = default_rng((load.seed, run))
        gc.collect()
        gc.freeze()  # a collection of all that was imported takes as long as some limits

    async def warm_up(self, rate: float) -> None:
        """Calls that nobody looks at, but that there are answers.

        Raises:
            ServerFailedError: not one was answered.
        """
        trial = await self._drive(rate, self._load.warm_up_s, False)
        if trial.outcomes and not any(outcome.answer for outcome in trial.outcomes):
            reasons = sorted({outcome.error for outcome in trial.outcomes})
            raise ServerFailedError(f"no call was answered: {', '.join(reasons)}")

    async def at(self, rate: float, *, stop_early: bool = False) -> tuple[Trial, dict[str, Any]]:
        """One trial of a rate, once the server is at rest: as it went, and in figures."""
        await self._rest()
        self._tell(f"{rate:.1f}/s for {self._load.seconds:g} s")
        before = self._server.usage() if self._server else None
        started = time.perf_counter()
        trial = await self._drive(rate, self._load.seconds, stop_early)
        found = {"rate": round(rate, 2), **figures(trial, self._load.limit.seconds), "overrun": trial.overrun}
        if self._server and before:
            after, wall = self._server.usage(), time.perf_counter() - started
            cpu, answered = after.cpu_s - before.cpu_s, sum(bool(outcome.answer) for outcome in trial.outcomes)
            found["server"] = {
                "cpu_s": round(cpu, 2),
                "cpu_cores": round(cpu / wall, 3),
                "cpu_ms_per_answer": round(1e3 * cpu / answered, 3) if answered else None,
                "memory_mb": after.memory_mb,
            }
        self._tell(f"{rate:.1f}/s: {found['in_time']:.2%} in time, p99 {found['latency_ms']['p99']} ms")
        return trial, found

    async def goodput(self, start: float, step: float) -> dict[str, Any]:
        """The figures of the highest rate at which 99 % of the calls were in time, and all rates that were tried."""
        tried: list[dict[str, Any]] = []
        best: dict[str, Any] = {"rate": 0.0, "goodput_per_s": 0.0}

        async def holds(rate: float) -> bool:
            nonlocal best
            trial, found = await self.at(rate, stop_early=True)
            tried.append({"rate": found["rate"], "in_time": found["in_time"]})
            held = not trial.overrun and in_time(trial, self._load.limit.seconds) >= IN_TIME
            if held and rate > best["rate"]:
                best = found
            return held

        await highest_rate(holds, start, step=step)
        return {**best, "tried": tried}

    async def _drive(self, rate: float, seconds: float, stop_early: bool) -> Trial:
        longest = max(self._load.limit.seconds(text.tokens) for text in self._load.texts)
        most = SPARE + rate * TOO_MANY * longest if stop_early else float("inf")
        calls = self._load.calls(rate, seconds, self._rng)
        return await drive(self._send, calls, seconds, timeout_s=self._load.timeout_s, most_open=most)

    async def _rest(self) -> None:
        """Waits until what earlier trials left behind is done: two short calls, one after the other, are answered.

        Raises:
            ServerFailedError: that takes too long.
        """
        answered = 0
        try:
            async with asyncio.timeout(SETTLE_S):
                while answered < 2:
                    try:
                        await self._send(SENTENCES[answered])
                        answered += 1
                    except CallError:
                        answered = 0
                        await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise ServerFailedError(f"the server did not come to rest within {SETTLE_S:g} s") from error
