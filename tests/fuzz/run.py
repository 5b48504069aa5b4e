"""Sends a server, and the parts of it that read, what no honest client would: none may fall, hang or be at fault.

    make fuzz        (python -m tests.fuzz.run [--inputs 1000000] [--live 20000] [--jobs 2] [--seed 0] [--atheris S])

In process the inputs go to the targets of ``targets.py`` by their shares, in chunks, each of a seed of its own: a chunk
that fails prints its smallest input and is repeated by ``--only TARGET --seed SEED --inputs CHUNK``. Live they go to
the real command over gRPC. With ``--atheris`` every target, or the one of ``--only``, also runs S seconds led by
coverage (``make fuzz-guided`` installs atheris and does that alone); what fails there lies in build/fuzz, and is
repeated by ``python -m tests.fuzz.guided TARGET FILE``. Ends in one line of JSON; exits 1 if anything failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.fuzz import live
from tests.fuzz.engine import fuzz
from tests.fuzz.targets import TARGETS

CHUNK = 5_000
FOUND = Path("build", "fuzz")  # where libFuzzer keeps what failed


def chunk(name: str, count: int, number: int) -> tuple[str, int, int, str]:
    """One chunk in a process: target, seed, how many inputs, and what failed."""
    target = TARGETS[name]
    try:
        return name, number, fuzz(target.check, target.inputs, count, number), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        return name, number, 0, "".join([*traceback.format_exception(error), *getattr(error, "__notes__", [])])


def plan(total: int, first: int, only: str = "") -> Iterator[tuple[str, int, int]]:
    """Chunks of all targets: name, inputs, seed."""
    number = first
    for name, target in TARGETS.items():
        left = total if only == name else 0 if only else -(-total * target.share // 100)
        while left > 0:
            yield name, min(CHUNK, left), number
            left, number = left - CHUNK, number + 1


def in_process(total: int, jobs: int, first: int, only: str = "") -> tuple[Counter[str], list[str]]:
    """Runs all chunks; how many inputs each target had, and what failed.

    Generators stop early where they have no new inputs; what is missing is made up for with further seeds.
    """
    done: Counter[str] = Counter()
    failures: list[str] = []
    with ProcessPoolExecutor(jobs) as pool:
        while sum(done.values()) < total and not failures:
            before = sum(done.values())
            running: list[Future[tuple[str, int, int, str]]] = [
                pool.submit(chunk, *planned) for planned in plan(total - before, first, only)
            ]
            first += len(running)
            for ended in as_completed(running):
                name, number, seen, failure = ended.result()
                done[name] += seen
                failures += [f"--only {name} --seed {number}\n{failure}"] if failure else []
                print(f"\r{sum(done.values()):>9} of {total}, failed {len(failures)}", end="", file=sys.stderr)
            assert sum(done.values()) > before or failures, "no target has any inputs left"
    print(file=sys.stderr)
    return done, failures


def with_atheris(seconds: float, only: str = "") -> tuple[Counter[str], list[str]]:
    """Every target, or one, in a process of its own, led by coverage: how many inputs each had, and what failed."""
    done: Counter[str] = Counter()
    failures = []
    FOUND.mkdir(parents=True, exist_ok=True)
    for name in [only] if only else TARGETS:
        options = [f"-max_total_time={seconds:.0f}", f"-artifact_prefix={FOUND}/{name}-"]
        command = [sys.executable, "-m", "tests.fuzz.guided", name, *options]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        done[name] = int(next(iter(re.findall(r"^Done (\d+) runs", ended.stderr, re.MULTILINE)), 0))
        print(f"atheris {name}: {done[name]} inputs, exit code {ended.returncode}", file=sys.stderr)
        failures += [f"{name}\n{ended.stderr[-4000:]}"] if ended.returncode else []
    return done, failures


def main(arguments: list[str]) -> int:
    """Fuzzes in process and live, prints; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in process")
    parser.add_argument("--live", type=int, default=20_000, help="against a server")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--seed", type=int, default=0, help="of the first chunk")
    parser.add_argument("--only", choices=TARGETS, default="", help="one target, and no server")
    parser.add_argument("--atheris", type=float, default=0.0, help="seconds a target led by coverage")
    given = parser.parse_args(arguments)
    if given.atheris and importlib.util.find_spec("atheris") is None:
        parser.error("--atheris needs atheris: make fuzz-guided installs it")
    started = time.perf_counter()
    done, failures = in_process(given.inputs, given.jobs, given.seed, given.only)
    codes: Counter[str] = Counter()
    guided: Counter[str] = Counter()
    if given.live and not given.only:
        codes, found = live.fuzz_server(given.live, given.seed)
        failures += found
    if given.atheris:
        guided, found = with_atheris(given.atheris, given.only)
        failures += found
    print(*failures, sep="\n", end="", file=sys.stderr)
    found_here = {
        "inputs": sum(done.values()),
        "by_target": dict(done),
        "guided": dict(guided),
        "live": sum(codes.values()),
        "by_code": dict(codes),
        "failures": len(failures),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(found_here))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
