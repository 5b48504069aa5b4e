"""What the server adds to a Check: from its handler's entry to its return, less the time of inference in the answer.

    python -m tests.bench.overhead [CALLS] [OPTION OF SERVE ...]

The real command, one client, one call at a time, a text of 32 tokens that ends at stage 1. The server's own access log
has the time of each call, the answer that of its inferences. Target: median <= 0.4 ms. Ends in one line of JSON; exits
1 where the target is missed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

import grpc

from cascade.v1 import cascade_service_pb2_grpc
from tests.bench.bounds import Bound, described, exit_code
from tests.bench.latency import WARM_UP, different, text_of_32_tokens

MOST_MS = 0.4
SERVE = [sys.executable, "-m", "cascade.cli", "serve", "--port", "0", "--access-log"]


def inferences_ms(address: str, calls: int) -> dict[str, float]:
    """Calls the server; by request id the milliseconds that its inferences took."""
    found = {}
    with grpc.insecure_channel(address) as channel:
        check = cascade_service_pb2_grpc.CascadeServiceStub(channel).Check
        for number, request in enumerate(islice(different(text_of_32_tokens()), calls + WARM_UP)):
            answer = check(request, timeout=60)
            if number >= WARM_UP:
                found[answer.request_id] = sum(stage.infer_ms for stage in answer.stages)
    return found


def calls_ms(log: Path) -> dict[str, float]:
    """By request id the milliseconds that a call took in the server."""
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    return {line["request_id"]: 1000 * line["seconds"] for line in lines if line["logger"] == "cascade.access"}


def main(arguments: list[str]) -> int:
    """Measures and prints; 1 if the bound is missed."""
    calls, options = (int(arguments[0]), arguments[1:]) if arguments else (400, [])
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            server = subprocess.Popen([*SERVE, *options], stdout=subprocess.PIPE, stderr=stderr, text=True)
            try:
                assert server.stdout is not None, "it was asked for as a pipe"
                inferences = inferences_ms(server.stdout.readline().split()[1].removeprefix("grpc="), calls)
            finally:
                server.terminate()
                server.wait(60)
        whole = calls_ms(log)
    rest = [whole[name] - inference for name, inference in inferences.items()]
    bounds = {"overhead_ms": Bound(statistics.median(rest), most=MOST_MS)}
    found = {
        "calls": len(rest),
        "overhead_ms": {
            "p50": round(statistics.median(rest), 3),
            "p95": round(statistics.quantiles(rest, n=20)[-1], 3),
        },
        "infer_ms": round(statistics.median(inferences.values()), 3),
        "options": options,
        "bounds": described(bounds),
    }
    print(json.dumps(found))
    return exit_code(bounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
