"""Five times more calls than the real server can answer: how many it still answers, how soon, and how soon it refuses.

    make overload        (python -m tests.bench.overload [SECONDS] [OPTION OF SERVE ...])

The server has one core and one thread, the clients have another core. Texts are those of ``cascade bench serve``, with
the lengths of prompts to a chat model. Three phases of some seconds each: all that it can do (12 calls at a time), a
fifth of that (its latency at rest), and five times that, the last two with Poisson arrivals that wait for nobody.
Latency counts from when a call was due, of answers and of refusals. A call that gRPC itself refuses, before the
server's own code sees it (UNAVAILABLE), is a refusal like any other. Targets: goodput >= 0.9 of capacity, p99 of the
answered <= twice that at rest, refusals within 10 ms at p99. ``generator_late_ms`` is by how much the clients were late
to send: what of the latencies is their own. Ends in one line of JSON; exits 1 where a target is missed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import isfinite, nan
from pathlib import Path
from typing import Any

from numpy.random import default_rng

from cascade.bench.serving.callers import grpc_caller
from cascade.bench.serving.drive import CallError, Outcome, Send, Trial, drive
from cascade.bench.serving.figures import quantile
from cascade.bench.serving.measure import Load
from cascade.bench.serving.mixes import CHAT, load_mixes
from cascade.bench.serving.process import keep_to, share_cores
from cascade.bench.serving.report import machine
from cascade.bench.serving.run import Settings, cascade_server, make_load, write_texts
from tests.bench.bounds import Bound, described, exit_code

SECONDS = 20.0
WARM_UP_S = 2.0  # of each phase, in which nobody looks
CLIENTS = 12  # that together are more than a server on one core can be busy with
TIMES = 5.0
BY_GRPC = "UNAVAILABLE"
REFUSED = frozenset({"RESOURCE_EXHAUSTED", BY_GRPC})
LEAST_GOODPUT, MOST_P99, MOST_REFUSAL_MS = 0.9, 2.0, 10.0


@dataclass(frozen=True)
class Phase:
    """What a phase of open load showed, the warm-up left out: the calls that were due in it, and its answers a second.

    An answer belongs to the second in which it came: what was still open in the end is no goodput.
    """

    outcomes: Sequence[Outcome]
    goodput: float

    @classmethod
    def of(cls, trial: Trial) -> Phase:
        """The phase of a trial."""
        seconds = trial.seconds - WARM_UP_S
        in_it = [o for o in trial.outcomes if o.answer and WARM_UP_S <= o.ended < trial.seconds]
        return cls([o for o in trial.outcomes if o.call.due >= WARM_UP_S], len(in_it) / seconds)

    def answered_ms(self, share: float) -> float:
        """A quantile of the latency of answers."""
        return _ms((outcome.latency for outcome in self.outcomes if outcome.answer), share)

    def refused_ms(self, share: float) -> float:
        """A quantile of the time until a refusal."""
        return _ms((o.ended - o.call.due for o in self.outcomes if o.error in REFUSED), share)

    def share(self, errors: Iterable[str]) -> float:
        """The share of the calls that ended with one of these errors."""
        return sum(outcome.error in errors for outcome in self.outcomes) / max(1, len(self.outcomes))

    def described(self) -> dict[str, Any]:
        """As JSON."""
        late = _ms((outcome.sent - outcome.call.due for outcome in self.outcomes), 0.99)
        other = Counter(outcome.error for outcome in self.outcomes if outcome.error and outcome.error not in REFUSED)
        return {
            "calls": len(self.outcomes),
            "answered_per_s": round(self.goodput, 1),
            "answered_ms": {"p50": _told(self.answered_ms(0.5)), "p99": _told(self.answered_ms(0.99))},
            "refused": round(self.share(REFUSED), 4),
            "refused_by_grpc": round(self.share([BY_GRPC]), 4),
            "refused_ms": {"p50": _told(self.refused_ms(0.5)), "p99": _told(self.refused_ms(0.99))},
            "other_errors": dict(other),
            "generator_late_ms": _told(late),
        }


def _ms(seconds: Iterable[float], share: float) -> float:
    ascending = sorted(seconds)
    return 1e3 * quantile(ascending, share) if ascending else nan


def _told(ms: float) -> float | None:
    return round(ms, 1) if isfinite(ms) else None


async def capacity(send: Send, texts: Iterator[str], seconds: float) -> float:
    """Answers a second to some clients, each of which calls again when it has its answer."""
    started = time.perf_counter()
    answered = 0

    async def client() -> None:
        nonlocal answered
        while (passed := time.perf_counter() - started) < WARM_UP_S + seconds:
            try:
                await send(next(texts))
            except CallError:
                continue
            passed = time.perf_counter() - started
            answered += WARM_UP_S <= passed < WARM_UP_S + seconds

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return answered / seconds


async def measure(send: Send, load: Load) -> tuple[float, Phase, Phase]:
    """The three phases: what the server can do, its rest, its overload."""
    rng, seconds = default_rng(load.seed), WARM_UP_S + load.seconds
    texts = cycle([load.texts[index].text for index in rng.permutation(len(load.texts))])
    most = await capacity(send, texts, load.seconds)
    if not most:
        raise SystemExit("the server answers nothing")
    phases = []
    for rate in (most / TIMES, TIMES * most):
        trial = await drive(send, load.calls(rate, seconds, rng), seconds, timeout_s=60.0)
        phases.append(Phase.of(trial))
    return most, phases[0], phases[1]


def judge(most: float, rest: Phase, over: Phase) -> dict[str, Bound]:
    """What is promised under overload."""
    return {
        "goodput_to_capacity": Bound(over.goodput / most, least=LEAST_GOODPUT),
        "p99_to_rest": Bound(over.answered_ms(0.99) / rest.answered_ms(0.99), most=MOST_P99),
        "refused_p99_ms": Bound(over.refused_ms(0.99), most=MOST_REFUSAL_MS),
    }


async def run(seconds: float, options: Sequence[str]) -> int:
    """Starts the server, measures, prints; 1 if a bound is missed."""
    cores, about = share_cores(), machine()
    keep_to(cores.load)
    settings = Settings(CHAT, load_mixes()[CHAT], seconds=seconds, warm_up_s=WARM_UP_S)
    load = make_load(settings, write_texts(settings), None)
    gc.collect()
    gc.freeze()  # a collection of all that was imported takes longer than a refusal may
    with tempfile.TemporaryDirectory() as folder:
        own = ["--threads", "1", *options]
        async with (
            cascade_server(settings.stage1, own, cores, Path(folder)) as (place, server, ready),
            grpc_caller(place) as send,
        ):
            most, rest, over = await measure(send, load)
            memory = server.usage().memory_mb
    bounds = judge(most, rest, over)
    report = {
        "bench": "overload",
        "ready": ready,
        "machine": about,
        "pinned": cores.server is not None,
        "seconds": seconds,
        "options": options,
        "capacity_per_s": round(most, 1),
        "rest": rest.described(),
        "over": over.described(),
        "memory_mb": memory,
        "bounds": described(bounds),
    }
    print(json.dumps(report))
    return exit_code(bounds)


def main(arguments: Sequence[str]) -> int:
    """Reads the arguments, runs."""
    seconds, options = (float(arguments[0]), arguments[1:]) if arguments else (SECONDS, [])
    return asyncio.run(run(seconds, list(options)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
