"""Five times more calls than the real server can answer: how many it still answers, how soon, and how soon it refuses.

    make overload        (python -m tests.bench.overload [SECONDS] [OPTION OF SERVE ...])

The server has one core and one thread, the clients have another core. Lengths are spread as those of real prompts are,
log-normal with the median at 22 words. Three phases of some seconds each: all that it can do (12 calls at a time), a
fifth of that (its latency at rest), and five times that, the last two with Poisson arrivals that wait for nobody.
Target: goodput >= 0.9 of capacity, p99 of the answered <= twice that at rest, refusals within 10 ms. Ends in one line
of JSON.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import grpc

from cascade.v1 import cascade_service_pb2_grpc, check_pb2

SECONDS = 20.0
WORDS = (  # noqa: SIM905 - reads better
    "please describe how the old stone bridge in our village was built and who paid for it in those days because my "
    "neighbour thinks that a merchant gave most of the money after the flood had carried away the wooden one"
).split()
Send = Callable[[str], Awaitable[object]]


@dataclass
class Seen:
    """What one phase showed: seconds of the answered and of the refused calls, and of the phase."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    seconds: float = 0.0
    dropped: int = 0  # calls that gRPC refused, before the server's own code saw them
    late: int = 0  # calls that the client itself began more than 10 ms late: if they are many, the figures are its own

    @property
    def goodput(self) -> float:
        """Answered calls a second."""
        return len(self.answered) / self.seconds


def make_text(rng: random.Random) -> str:
    """A harmless text of a length as prompts have them; no two are alike."""
    count = min(800, max(1, round(math.exp(rng.gauss(math.log(22), 1.0)))))
    return " ".join([*rng.choices(WORDS, k=count), str(rng.getrandbits(32))])


async def call(send: Send, seen: Seen, rng: random.Random) -> None:
    """One call, and what came of it."""
    started = time.perf_counter()
    try:
        await send(make_text(rng))
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            seen.refused.append(time.perf_counter() - started)
        elif error.code() is grpc.StatusCode.UNAVAILABLE:
            seen.dropped += 1
        else:
            raise
    else:
        seen.answered.append(time.perf_counter() - started)


async def in_turn(send: Send, seconds: float, rng: random.Random) -> Seen:
    """Some clients, each of which calls again when it has its answer."""
    seen, started = Seen(), time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < started + seconds:
            await call(send, seen, rng)

    await asyncio.gather(*(client() for _ in range(12)))
    seen.seconds = time.perf_counter() - started
    return seen


async def poisson(send: Send, seconds: float, rate: float, rng: random.Random) -> Seen:
    """Calls at random times, whatever becomes of those before; what the first two seconds show is left out."""
    seen, before, started, due = Seen(), Seen(), time.perf_counter() + 2, -2.0
    async with asyncio.TaskGroup() as group:
        while (due := due + rng.expovariate(rate)) < seconds:
            if (wait := started + due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            seen.late += time.perf_counter() - started - due > 0.01
            group.create_task(call(send, seen if due > 0 else before, rng))
    seen.seconds = time.perf_counter() - started
    return seen


def ms(values: list[float], share: float) -> float:
    """A quantile in milliseconds."""
    return (
        round(1e3 * statistics.quantiles(values, n=1000)[round(1000 * share) - 1], 1) if len(values) > 1 else math.nan
    )


async def measure(port: str, seconds: float) -> dict[str, object]:
    """The three phases."""
    rng = random.Random(7)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = cascade_service_pb2_grpc.CascadeServiceStub(channel).Check
        options = check_pb2.CheckOptions(bypass_cache=True)
        send = lambda text: check(check_pb2.CheckRequest(text=text, options=options), timeout=60)  # noqa: E731
        await in_turn(send, seconds / 5, rng)
        full = await in_turn(send, seconds, rng)
        rest = await poisson(send, seconds, full.goodput / 5, rng)
        over = await poisson(send, seconds, 5 * full.goodput, rng)
    return {
        "capacity_per_s": round(full.goodput, 1),
        "offered": round((len(over.answered) + len(over.refused)) / over.seconds / full.goodput, 2),
        "goodput": round(over.goodput / full.goodput, 3),
        "rest_ms": {"p50": ms(rest.answered, 0.5), "p99": ms(rest.answered, 0.99)},
        "answered_ms": {"p50": ms(over.answered, 0.5), "p99": ms(over.answered, 0.99)},
        "p99_ratio": round(ms(over.answered, 0.99) / ms(rest.answered, 0.99), 2),
        "refused_ms": {"p50": ms(over.refused, 0.5), "p99": ms(over.refused, 0.99)},
        "refused": [len(seen.refused) for seen in (full, rest, over)],
        "dropped": over.dropped,
        "began_late": over.late,
    }


def main(arguments: list[str]) -> None:
    """Starts the server, measures, prints."""
    seconds, options = (float(arguments[0]), arguments[1:]) if arguments else (SECONDS, [])
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "cascade.cli", "serve", "--port", "0", "--threads", "1", *options]
    pin = partial(os.sched_setaffinity, 0, {cores[0]})
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=pin
    ) as server:
        try:
            assert server.stdout is not None, "it was asked for as a pipe"
            port = server.stdout.readline().split("grpc=127.0.0.1:")[1].split()[0]
            os.sched_setaffinity(0, {cores[-1]})
            found = asyncio.run(measure(port, seconds))
            with open(f"/proc/{server.pid}/status", encoding="utf-8") as status:
                peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
        finally:
            server.terminate()
    print(json.dumps({**found, "peak_mb": round(int(peak) / 1024), "seconds": seconds, "options": options}))


if __name__ == "__main__":
    main(sys.argv[1:])
