"""Many thousands of calls of all kinds against the real server: does its memory stay what it is?

    make soak CALLS=200000       (python -m tests.soak.run [CALLS] [OPTION OF SERVE ...])

Some callers at a time send single texts, batches, streams, generations, calls that they take back and calls that are
wrong, most texts never seen before; a fifth of them begin with what stage 1 hands to stage 2 (``escalated`` is the
share that it did). The server keeps an audit log. Resident memory of the server and of all its processes is read every
now and then. Target: after the first fifth of the calls it grows by less than 2 %, no call has a code that it should
not have, and every answer is in the audit log. Ends in one line of JSON; exits 1 where the target is missed.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import psutil

from cascade.v1 import cascade_service_pb2 as service_pb2
from cascade.v1 import check_pb2
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from tests.soak.growth import Sample, growth
from tests.soak.texts import make_text

CALLS = 200_000
CALLERS = 12
SAMPLES = 400
MOST_GROWTH = 0.02
CACHE_SHARE = 20  # the cache of answers is full, and forgets the oldest, long before the warm-up ends
SERVE = (sys.executable, "-m", "cascade.cli", "serve", "--port", "0")
OF_THE_CLIENT = "Internal error from Core"  # of gRPC's own client, where a stream ends while it writes: grpc#36066
# What the kinds of calls may end with; whatever else comes is a failure.
EXPECTED = {
    "check": {"OK", "RESOURCE_EXHAUSTED"},
    "again": {"OK", "RESOURCE_EXHAUSTED"},
    "batch": {"OK", "RESOURCE_EXHAUSTED"},
    "stream": {"OK", "RESOURCE_EXHAUSTED"},
    "generation": {"OK", "RESOURCE_EXHAUSTED", OF_THE_CLIENT},
    "wrong": {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"},
    "taken_back": {"CANCELLED", "OK", "RESOURCE_EXHAUSTED"},
}
SHARES = {"check": 70, "again": 10, "batch": 4, "stream": 4, "generation": 4, "wrong": 4, "taken_back": 4}


class Callers:
    """Calls a server until there were so many calls.

    ``codes`` counts kinds and codes, ``answered`` the contents that were judged, ``escalated`` those of them that stage
    2 was asked about; what a generation is checked for on its way is not among them.
    """

    def __init__(self, stub: Any, total: int) -> None:
        self.codes: Counter[tuple[str, str]] = Counter()
        self.begun = self.answered = self.escalated = 0
        self._stub, self._total = stub, total

    @property
    def done(self) -> int:
        """Calls that have ended."""
        return self.codes.total()

    @property
    def failures(self) -> dict[str, int]:
        """Codes that should not have come, by kind."""
        return {f"{kind} {code}": n for (kind, code), n in self.codes.items() if code not in EXPECTED[kind]}

    async def run(self, seed: int) -> None:
        """One caller, who calls again when it has its answer."""
        rng = random.Random(seed)
        while self.begun < self._total:
            self.begun += 1
            (kind,) = rng.choices(list(SHARES), list(SHARES.values()))
            try:
                await getattr(self, f"_{kind}")(rng)
                code = "OK"
            except grpc.RpcError as error:
                code = OF_THE_CLIENT if error.details() == OF_THE_CLIENT else error.code().name
            except asyncio.CancelledError:
                code = "CANCELLED"
            self.codes[kind, code] += 1

    def _count(self, *answers: check_pb2.CheckResponse) -> None:
        for answer in answers:
            assert answer.verdict, "an answer has a verdict"
            self.answered += 1
            self.escalated += answer.route.escalated

    async def _check(self, rng: random.Random) -> None:
        self._count(await self._stub.Check(check_pb2.CheckRequest(text=make_text(rng)), timeout=60))

    async def _again(self, rng: random.Random) -> None:
        self._count(
            await self._stub.Check(check_pb2.CheckRequest(text=f"the same text {rng.randrange(50)}"), timeout=60)
        )

    async def _batch(self, rng: random.Random) -> None:
        requests = [check_pb2.CheckRequest(text=make_text(rng)) for _ in range(3)]
        answer = await self._stub.BatchCheck(service_pb2.BatchCheckRequest(requests=requests), timeout=60)
        assert len(answer.items) == len(requests), "each item is answered"
        self._count(*(item.response for item in answer.items if item.HasField("response")))

    async def _stream(self, rng: random.Random) -> None:
        async def items() -> AsyncIterator[service_pb2.CheckStreamRequest]:
            for _ in range(3):
                yield service_pb2.CheckStreamRequest(request=check_pb2.CheckRequest(text=make_text(rng)))

        answers = [answer async for answer in self._stub.CheckStream(items(), timeout=60)]
        assert len(answers) == 3, "each item is answered"
        self._count(*(answer.response for answer in answers if answer.HasField("response")))

    async def _generation(self, rng: random.Random) -> None:
        async def events() -> AsyncIterator[service_pb2.ModerateStreamRequest]:
            yield service_pb2.ModerateStreamRequest(start={"prompt": make_text(rng)})
            yield service_pb2.ModerateStreamRequest(delta=make_text(rng))
            yield service_pb2.ModerateStreamRequest(end={})

        async for _ in self._stub.ModerateStream(events(), timeout=60):
            pass

    async def _wrong(self, rng: random.Random) -> None:
        hazard = f"no hazard {rng.random()}"
        await self._stub.Check(check_pb2.CheckRequest(text="x", options={"hazards": [hazard]}), timeout=60)

    async def _taken_back(self, rng: random.Random) -> None:
        call = self._stub.Check(check_pb2.CheckRequest(text=make_text(rng)), timeout=60)
        await asyncio.sleep(rng.random() * 0.01)
        call.cancel()
        await call


def resident_mb(process: psutil.Process) -> float:
    """Of the server and everything that it started."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 2**20


async def measure(port: int, process: psutil.Process, total: int) -> tuple[Callers, list[Sample]]:
    """All calls, and the memory meanwhile."""
    samples: list[Sample] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        callers = Callers(CascadeServiceStub(channel), total)

        async def watch() -> None:
            step = max(1, total // SAMPLES)
            while True:
                if callers.done >= len(samples) * step:
                    samples.append(Sample(callers.done, await asyncio.to_thread(resident_mb, process)))
                    print(f"\r{callers.done:>8} of {total}, {samples[-1].mb:.1f} MB", end="", file=sys.stderr)
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(callers.run(number) for number in range(CALLERS)))
        watching.cancel()
    print(file=sys.stderr)
    samples.append(Sample(callers.done, resident_mb(process)))
    return callers, samples


def records(folder: Path) -> int:
    """Lines of the audit log in a folder, full files of it included."""
    files = [path for path in folder.glob("audit.jsonl*") if path.suffix != ".salt"]
    return sum(path.read_bytes().count(b"\n") for path in files)


def main(arguments: Sequence[str], serve: Sequence[str] = (), audit_log: str = "--audit-log") -> int:
    """Starts the server, calls, prints; 1 if memory grew, a call failed or an answer has no record."""
    total, options = (int(arguments[0]), arguments[1:]) if arguments else (CALLS, [])
    started = time.perf_counter()
    command = serve or [*SERVE, "--cache-entries", str(min(16_384, total // CACHE_SHARE))]
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [*command, audit_log, f"{folder}/audit.jsonl", *options], stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        try:
            assert server.stdout is not None, "it was asked for as a pipe"
            port = int(server.stdout.readline().split("grpc=127.0.0.1:")[1].split()[0])
            callers, samples = asyncio.run(measure(port, psutil.Process(server.pid), total))
        finally:
            server.terminate()
        server.wait()
        log.seek(0)
        errors = sum('"level": "error"' in line for line in log)
        recorded = records(Path(folder))
    grown = growth(samples)
    grew = max(grown["slope"], grown["ends"]) >= MOST_GROWTH
    failed = bool(callers.failures or errors or grew or recorded < callers.answered)
    report = {
        "calls": callers.done,
        "growth": round(grown["slope"], 4),
        "growth_of_ends": round(grown["ends"], 4),
        "warm_mb": round(grown["warm_mb"], 1),
        "last_mb": round(samples[-1].mb, 1),
        "codes": {f"{kind} {code}": count for (kind, code), count in sorted(callers.codes.items())},
        "unexpected": callers.failures,
        "answered": callers.answered,
        "escalated": round(callers.escalated / max(1, callers.answered), 4),
        "audit_records": recorded,
        "errors_logged": errors,
        "exit_code": server.returncode,
        "calls_per_s": round(callers.done / (time.perf_counter() - started), 1),
        "options": [*command[len(SERVE) :], *options],
        "passed": not failed and server.returncode == 0,
    }
    print(json.dumps(report))
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
