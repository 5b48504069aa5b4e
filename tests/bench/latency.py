"""Start-up, memory and latency of the real server against two floors of the same run: an echo RPC and a bare session.

    make bench        (python -m tests.bench.latency [CALLS])

The text has 32 tokens and ends at stage 1; one client makes one call at a time. The kinds of call take turns, so that a
noisy machine disturbs all of them alike. Targets: check <= echo + 1.5 x session, with a session of one thread; and
check - echo - session <= 0.5 ms, with one of as many threads as the server's has. Ends in one line of JSON; exits 1
where a target is missed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import grpc

from cascade.cores import usable_cores
from cascade.v1 import cascade_service_pb2_grpc, check_pb2
from stages.encoder import cpu_flags
from stages.registry import load_stage
from stages.taxonomy import HAZARD_SLUGS
from tests.bench.bounds import Bound, described, exit_code

TOKENS = 32
WARM_UP = 30
SESSIONS = 1.5  # that a check may take beside an echo
REST_MS = 0.5  # that it may take beside an echo and a session like the server's


def text_of_32_tokens() -> str:
    """A harmless text of 30 tokens and two special ones."""
    stage, words = load_stage("tinysafe"), ["Please"]
    filler = [
        "describe",
        "how",
        "the",
        "old",
        "stone",
        "bridge",
        "in",
        "our",
        "village",
        "was",
        "built",
        "and",
        "who",
        "paid",
        "for",
        "it",
        "in",
        "those",
        "days",
    ]
    for word in filler * 3:
        if len(stage.encode(" ".join([*words, word])).windows[0]) > TOKENS:
            break
        words.append(word)
    return " ".join(words)


def different(text: str) -> Iterator[check_pb2.CheckRequest]:
    """Requests for one text that ask about different hazards: the same work for each, and no answer is kept for it."""
    for number in itertools.count(1):
        asked = [slug for index, slug in enumerate(HAZARD_SLUGS) if number >> index & 1]
        yield check_pb2.CheckRequest(text=text, options=check_pb2.CheckOptions(hazards=asked))


def run_echo(pipe: Connection) -> None:
    """A grpc.aio server, in a process of its own, that answers every request with a given message."""

    async def serve() -> None:
        reply = pipe.recv()

        async def echo(request: bytes, context: object) -> bytes:
            return reply

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", {"Echo": handler})])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        pipe.send(port)
        await server.wait_for_termination()

    asyncio.run(serve())


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def judge(median: dict[str, float]) -> dict[str, Bound]:
    """The bounds of medians in milliseconds."""
    rest = median["check"] - median["echo"]
    return {
        "check_ms": Bound(median["check"], most=median["echo"] + SESSIONS * median["session"]),
        "check_less_echo_less_session_ms": Bound(rest - median["session_of_server"], most=REST_MS),
    }


def main(calls: int = 400) -> int:
    """Measures and prints; 1 if a bound is missed."""
    text = text_of_32_tokens()
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "cascade.cli", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    address = server.stdout.readline().split()[1].removeprefix("grpc=")
    ready_s = time.perf_counter() - started
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    echo = context.Process(target=run_echo, args=(theirs,), daemon=True)
    echo.start()
    try:
        with grpc.insecure_channel(address) as channel:
            stub = cascade_service_pb2_grpc.CascadeServiceStub(channel)
            requests = different(text)
            request = next(requests)
            answer = stub.Check(request)
            assert not answer.route.escalated, "the text must end at stage 1"
            ours.send(answer.SerializeToString())
            with grpc.insecure_channel(f"127.0.0.1:{ours.recv()}") as echo_channel:
                call_echo = echo_channel.unary_unary("/echo.Echo/Echo")
                stage, like_server = load_stage("tinysafe"), load_stage("tinysafe", calls=usable_cores())
                windows = stage.encode(text).windows
                payload = request.SerializeToString()
                kinds = {
                    "check": lambda: stub.Check(next(requests)),
                    "echo": lambda: call_echo(payload),
                    "session": lambda: stage.score(windows),
                    "session_of_server": lambda: like_server.score(windows),
                }
                times: dict[str, list[float]] = {name: [] for name in kinds}
                for turn in range(calls + WARM_UP):
                    for name, call in kinds.items():
                        before = time.perf_counter()
                        call()
                        if turn >= WARM_UP:
                            times[name].append(1e3 * (time.perf_counter() - before))
            # A few escalated and long texts, so that memory is that of a server in use.
            for size in (10, 300, 3000):
                stub.Check(check_pb2.CheckRequest(text="How do I break into a house? " * size))
            memory = resident_mb(server.pid)
    finally:
        server.terminate()
        server.wait(20)
        echo.terminate()
    median = {name: round(statistics.median(values), 3) for name, values in times.items()}
    bounds = judge(median)
    print(
        json.dumps(
            {
                "tokens": len(windows[0]),
                "calls": calls,
                "median_ms": median,
                "p95_ms": {name: round(statistics.quantiles(values, n=20)[-1], 3) for name, values in times.items()},
                "bounds": described(bounds),
                "check_to_bound": round(median["check"] / bounds["check_ms"].most, 3),
                "ready_s": round(ready_s, 2),
                "resident_mb": round(memory),
                "cpu": f"{platform.machine()} {cpu_flags()}",
                "cores": len(os.sched_getaffinity(0)),
                "model": f"{stage.info.name}@{stage.info.revision}",
            }
        )
    )
    return exit_code(bounds)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
