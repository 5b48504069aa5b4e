"""What a text costs, and what more machines would: ``python -m tests.ray.costs FILE [SIZE]``. Run it alone.

Measures, on this machine: c1 and c2 in bare sessions, what two processes of them do, the CPU time of a text in the bulk
scan, a part's price to the driver of engine ray, calls through Ray's gRPC proxy against ``cascade serve``, and the scan
with one and two workers. What FILE, JSON, has already is not measured again. Ends in the tables of docs/scale.md.

SIZE is 1 for figures that mean something, about fifteen minutes on two cores; 0.05 shows whether all of it runs.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.encoder import cpu_flags
from stages.registry import EMBEDDED, load_stage
from tests.ray import calls, cluster, results, sessions, tables, throughput
from tests.ray.usage import Usage

TOKENS = (32, 128, 512)
REPLICAS = (1, 2)
DRIVERS = ("the command", "cluster", "other actors", "other processes")  # of a scan: all but those that judge


def machine(size: float) -> Any:
    """Where and with what all of this was measured."""
    found = {"cpu": f"{platform.machine()} {cpu_flags()}", "cores": len(os.sched_getaffinity(0)), "size": size}
    models = {name: load_stage(name).info.revision for name in EMBEDDED}
    return found | {"ray": version("ray"), "models": models}


def bare(size: float) -> Any:
    """Model -> tokens -> milliseconds of a text in a bare session."""
    return {
        model: {tokens: sessions.milliseconds(model, tokens, max(3, int(size * 12_800 / tokens))) for tokens in TOKENS}
        for model in EMBEDDED
    }


def side_by_side(size: float) -> Any:
    """Processes -> texts a second, of bare sessions that share nothing but the machine."""
    return {processes: sessions.together(processes, 30 * size) for processes in (1, 2)}


def bulk(size: float) -> Any:
    """Tokens -> CPU milliseconds of a text in the local scan on one thread, and the share that was escalated."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="cascade-") as name:
        folder = Path(name)
        start = scanned(folder, sessions.texts(1, TOKENS[0]))[0]
        for tokens in TOKENS:
            texts = sessions.texts(max(20, int(size * 128_000 / tokens)), tokens)
            used, escalated = scanned(folder, texts)
            found[tokens] = {"cpu_ms": 1000 * (used - start) / (len(texts) - 1), "escalated": escalated}
    return found


def scanned(folder: Path, texts: list[str]) -> tuple[float, float]:
    """CPU seconds of a local scan of these texts, and the share that was escalated."""
    (folder / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out = folder / "out.jsonl"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    throughput.seconds(folder, "in.jsonl", ("--threads", "1"), out.name)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    judged = results.read(out)
    out.unlink()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, sum(row["result"]["route"]["escalated"] for row in judged) / len(judged)


def parts(size: float) -> Any:
    """Scans with few and with many parts of the same rows: how many, and CPU seconds of all that does not judge."""
    found = []
    with tempfile.TemporaryDirectory(prefix="cascade-") as name:
        folder = Path(name)
        throughput.write(folder / "in.jsonl", max(100, int(2000 * size)))
        for part_kb in (1000, 1):
            command = ["-m", "cascade.cli", "scan", "in.jsonl", "--out", f"out{part_kb}", "--engine", "ray"]
            command += ["--workers", "1", "--part-kb", str(part_kb)]
            environment = cluster.environment(folder)
            process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment)
            with Usage(process.pid) as usage:
                status = process.wait()
            if status:
                raise RuntimeError(f"the scan ended with {status}")
            made = len(results.by_part(folder / f"out{part_kb}"))
            found.append({"parts": made, "cpu_s": sum(usage.seconds[role] for role in DRIVERS)})
    return found


def served(size: float) -> Any:
    """Server -> texts of a call -> what calls give and take."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="cascade-") as name, calls.local(Path(name)) as server:
        found["serve"] = {many: calls.measured(server, many, 30 * size) for many in calls.SIZES}
    for replicas in REPLICAS:
        with tempfile.TemporaryDirectory(prefix="cascade-") as name, calls.on_ray(Path(name), replicas) as server:
            found[f"ray {replicas}"] = {many: calls.measured(server, many, 30 * size) for many in calls.SIZES}
    return found


def scans(size: float) -> Any:
    """Engine and workers -> texts a second of a scan, and the cores that it keeps busy."""
    found = throughput.measured(max(40, int(4000 * size)))
    return {scan.title: {"texts_s": scan.texts_s, "cores": scan.cores} for scan in found}


SECTIONS: dict[str, Callable[[float], Any]] = {
    "machine": machine,
    "bare": bare,
    "side_by_side": side_by_side,
    "bulk": bulk,
    "scans": scans,
    "parts": parts,
    "served": served,
}


def main() -> None:
    """Measures what the file does not have, and prints the tables."""
    path, size = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    found = json.loads(path.read_text()) if path.exists() else {}
    for name, measure in SECTIONS.items():
        if name not in found:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            found[name] = measure(size)
            path.write_text(json.dumps(found, indent=2) + "\n")
    for title, table in tables.all_of(json.loads(path.read_text())).items():
        print(f"\n<!-- {title} -->\n{table}")


if __name__ == "__main__":
    main()
