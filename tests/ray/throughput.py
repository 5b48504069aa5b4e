"""Texts a second of ``cascade scan``, local and on Ray: python -m tests.ray.throughput [ROWS]. Run it alone.

Each figure is of the whole command and all that it starts, less what the same command takes for a single row: loading
the models, and starting a cluster, do not grow with the input.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ray import cluster
from tests.ray.usage import Usage

WORDS = "how do I bake bread and keep tomato plants alive without that process which steals passwords"
WAYS = {
    "local, `--threads 1`": ("--threads", "1"),
    "local, `--threads 2`": ("--threads", "2"),
    "ray, 1 worker": ("--engine", "ray", "--workers", "1", "--part-kb", "100"),
    "ray, 2 workers": ("--engine", "ray", "--workers", "2", "--part-kb", "100"),
}


def main() -> None:
    """Prints a table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print("| engine | texts/s | cores busy | seconds | of it not for texts |\n| --- | --- | --- | --- | --- |")
    for scan in measured(rows):
        print(
            f"| {scan.title} | {scan.texts_s:.0f} | {scan.cores:.2f} | {scan.whole_s:.1f} | {scan.start_s:.1f} |",
            flush=True,
        )


@dataclass(frozen=True)
class Scan:
    """What one way does: texts a second, the cores that it keeps busy, the seconds of all and of a single row."""

    title: str
    texts_s: float
    cores: float
    whole_s: float
    start_s: float


def measured(rows: int) -> Iterator[Scan]:
    """Every way, one after the other."""
    with tempfile.TemporaryDirectory(prefix="cascade-") as name:
        folder = Path(name)
        write(folder / "many.jsonl", rows)
        write(folder / "one.jsonl", 1)
        for title, options in WAYS.items():
            start, start_cpu = seconds(folder, "one.jsonl", options)
            whole, whole_cpu = seconds(folder, "many.jsonl", options)
            took = whole - start
            yield Scan(title, (rows - 1) / took, (whole_cpu - start_cpu) / took, whole, start)


def write(path: Path, rows: int) -> None:
    """Texts of 5 to 59 words, each another one."""
    words = WORDS.split()
    lines = (
        " ".join(words[(index + 1) * step % len(words)] for step in range(5 + index % 55)) for index in range(rows)
    )
    path.write_text("".join(json.dumps({"text": f"{index} {line}"}) + "\n" for index, line in enumerate(lines)))


def seconds(folder: Path, source: str, options: tuple[str, ...], out: str = "") -> tuple[float, float]:
    """The time of a scan, and the CPU time of the command and of all that it starts."""
    out = out or f"out-{time.monotonic_ns()}{'' if 'ray' in options else '.jsonl'}"
    command = [sys.executable, "-m", "cascade.cli", "scan", source, "--out", out, *options]
    started = time.perf_counter()
    with open(folder / "scan.log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=cluster.environment(folder), stdout=log, stderr=log)
        with Usage(process.pid) as usage:
            status = process.wait()
        took = time.perf_counter() - started
        if status:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command[2:])}: {log.read()[-4000:]}")
    return took, sum(usage.seconds.values())


if __name__ == "__main__":
    main()
