"""Texts a second of ``cascade scan``, local and on Ray: python -m tests.ray.throughput [ROWS]. Run it alone.

Each figure is of the whole command, less the time that the same command takes for a single row: loading the models, and
starting a cluster, do not grow with the input.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ray import cluster

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
    print("| engine | texts/s | seconds | of it not for texts |\n| --- | --- | --- | --- |")
    for title, rate, whole, start in measured(rows):
        print(f"| {title} | {rate:.0f} | {whole:.1f} | {start:.1f} |", flush=True)


def measured(rows: int) -> Iterator[tuple[str, float, float, float]]:
    """Of each way its name, texts a second, the seconds of the whole command, and those of one with a single row."""
    with tempfile.TemporaryDirectory(prefix="cascade-") as name:
        folder = Path(name)
        write(folder / "many.jsonl", rows)
        write(folder / "one.jsonl", 1)
        for title, options in WAYS.items():
            start = seconds(folder, "one.jsonl", options)
            whole = seconds(folder, "many.jsonl", options)
            yield title, (rows - 1) / (whole - start), whole, start


def write(path: Path, rows: int) -> None:
    """Texts of 5 to 59 words, each another one."""
    words = WORDS.split()
    lines = (
        " ".join(words[(index + 1) * step % len(words)] for step in range(5 + index % 55)) for index in range(rows)
    )
    path.write_text("".join(json.dumps({"text": f"{index} {line}"}) + "\n" for index, line in enumerate(lines)))


def seconds(folder: Path, source: str, options: tuple[str, ...], out: str = "") -> float:
    """The time of a scan."""
    out = out or f"out-{time.monotonic_ns()}{'' if 'ray' in options else '.jsonl'}"
    command = [sys.executable, "-m", "cascade.cli", "scan", source, "--out", out, *options]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=cluster.environment(folder), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: {done.stderr[-4000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
