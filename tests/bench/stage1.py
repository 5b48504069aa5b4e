"""Stage 1 by itself against what it was before anything was done for its speed: windows a second, decisions, F1.

    python -m tests.bench.stage1 --data DIR [--model MODEL] [--baseline DIR-OR-COMMIT] [--reference MODEL]
                                 [--texts N] [--rounds N]

The texts are rows that no embedded model trained on (training/held_out.py), by kind of traffic. The model, by the
product's own classes, and the baseline, an earlier commit's model on a session as ONNX Runtime makes it, score the same
blocks of texts in turn, on one core and one thread; what counts is CPU time, of each block the median over the rounds.
The interval is that of a bootstrap over blocks. ``--reference`` names a model folder to compare decisions with as well:
the same network, say, without what makes it faster. A decision is made by the default policy's ``unsafe_threshold`` of
stage 1, and once more by its ``route.low``. The thresholds were fitted to the embedded model, so that F1 is also told
at each model's own best threshold.

Target: at least twice the baseline's throughput on chat and on all kinds, at least 0.99 equal decisions, F1 at most
0.005 below. Ends in one line of JSON; exits 1 where a target is missed. To read and split the sets takes minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.bench.serving.process import keep_to, share_cores
from cascade.bench.serving.report import machine
from cascade.evaluate.metrics import bootstrap, ratio
from cascade.merging.segments import pool
from cascade.policy import Policy, default_policy
from stages.registry import load_stage
from stages.stage import Stage
from tests.bench import baseline
from tests.bench.bounds import Bound, described, exit_code
from training.held_out import HeldOut, held_out
from training.prevalence import f1, f1_of_draws

Floats = NDArray[np.float64]
OURS, BASELINE, REFERENCE = "model", "baseline", "reference"
BLOCK = 8  # texts that a model scores before it is the other's turn
FASTER, EQUAL, F1_LESS = 2.0, 0.99, 0.005
GRID = np.round(np.arange(0.05, 0.985, 0.005), 3)


@dataclass
class Spent:
    """What a model needed for the blocks of a kind of traffic: their windows; by block, the seconds of each round."""

    windows: int = 0
    seconds: list[list[float]] = field(default_factory=list)

    @property
    def by_block(self) -> Floats:
        """Median seconds of each block."""
        return np.array([median(rounds) for rounds in self.seconds])

    @property
    def per_s(self) -> float:
        """Windows a second."""
        return self.windows / float(self.by_block.sum())


def blocks(rows: Sequence[int]) -> list[Sequence[int]]:
    """Rows, some at a time."""
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def some(rows: Sequence[int], most: int | None) -> list[int]:
    """At most so many rows, evenly over all."""
    return list(rows[:: max(1, -(-len(rows) // most))]) if most else list(rows)


def in_turn(stages: dict[str, Stage], texts: Sequence[Sequence[str]], rounds: int) -> dict[str, Spent]:
    """Times models on blocks of texts; tokenizers do not count."""
    encoded = {
        name: [[window for text in block for window in stage.encode(text).windows] for block in texts]
        for name, stage in stages.items()
    }
    spent = {name: Spent(sum(map(len, windows)), [[] for _ in windows]) for name, windows in encoded.items()}
    for name, stage in stages.items():
        stage.score(encoded[name][0])  # what a session does once only
    for turn in range(rounds):
        for block in range(len(texts)):
            for name in sorted(stages, reverse=(turn + block) % 2 == 1):
                windows, before = encoded[name][block], time.process_time()
                stages[name].score(windows)
                spent[name].seconds[block].append(time.process_time() - before)
    return spent


def throughput(spent: dict[str, Spent]) -> dict[str, Any]:
    """Windows a second of both, and how many times the baseline's the model's throughput is on the same texts."""
    ours, other = (spent[name].by_block for name in (OURS, BASELINE))
    times = bootstrap({"times": lambda weights: ratio(weights @ other, weights @ ours)}, len(ours), seed=0)["times"]
    rates = {name: round(one.per_s, 1) for name, one in spent.items()}
    return {"windows": spent[OURS].windows, "windows_per_s": rates, "times": _rounded(times.to_dict())}


def probabilities(stage: Stage, texts: Sequence[str], pooling: str) -> Floats:
    """What a stage says of each text, calibrated, its windows pooled as a policy has it."""
    calibration, found = stage.calibration, []
    for text in texts:
        logits = [scores.unsafe for scores in stage.score(stage.encode(text).windows)]
        found.append(calibration.unsafe(pool(logits, pooling, calibration.length_penalty)))
    return np.array(found)


def best_f1(scores: Floats, unsafe: Floats, kind: str) -> float:
    """F1 at the threshold that is best for these rows."""
    return float(f1_of_draws(scores[:, None] >= GRID, unsafe, np.ones((1, len(unsafe))), kind).max())


def compare(ours: Floats, other: Floats, unsafe: Floats, policy: Policy, kind: str = "") -> dict[str, Any]:
    """Equal decisions, and F1 of both, on labelled rows; chat and comments at the prevalence of traffic."""
    at, low = policy.stage1.unsafe_threshold, policy.route.low
    found = {
        "equal_decisions": float(np.mean((ours >= at) == (other >= at))),
        "equal_routing": float(np.mean((ours >= low) == (other >= low))),
        "f1": f1(ours >= at, unsafe, kind),
        "f1_other": f1(other >= at, unsafe, kind),
        "best_f1": best_f1(ours, unsafe, kind),
        "best_f1_other": best_f1(other, unsafe, kind),
    }
    return {"texts": len(ours)} | _rounded(found)


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else round(value, 5) for name, value in figures.items()}


def measure(stages: dict[str, Stage], held: HeldOut, texts: int | None, rounds: int, policy: Policy) -> dict[str, Any]:
    """All figures and their bounds. ``stages`` are the model, the baseline and perhaps the reference."""
    kinds = {name: some(rows.tolist(), texts) for name, rows in held.kinds().items()}
    timed = {name: stages[name] for name in (OURS, BASELINE)}
    spent = {
        kind: in_turn(timed, [[held.rows[row].text for row in block] for block in blocks(rows)], rounds)
        for kind, rows in kinds.items()
    }
    spent["all"] = {
        name: Spent(
            sum(one[name].windows for one in spent.values()),
            [rounds for one in spent.values() for rounds in one[name].seconds],
        )
        for name in timed
    }
    speed = {kind: throughput(one) for kind, one in spent.items()}
    rows = [row for members in kinds.values() for row in members]
    said = {
        name: probabilities(stage, [held.rows[row].text for row in rows], policy.merge.segments)
        for name, stage in stages.items()
    }
    places = {kind: np.flatnonzero(np.isin(rows, members)) for kind, members in kinds.items()}
    unsafe = held.unsafe[rows]
    others = {
        name: {
            kind: compare(said[OURS][at], said[name][at], unsafe[at], policy, kind)
            for kind, at in (places | {"all": np.arange(len(rows))}).items()
        }
        for name in stages
        if name != OURS
    }
    bounds = {f"throughput_{kind}": Bound(speed[kind]["times"]["value"], least=FASTER) for kind in ("chat", "all")}
    for name, found in others.items():
        bounds[f"equal_decisions_to_{name}"] = Bound(found["all"]["equal_decisions"], least=EQUAL)
        bounds[f"f1_above_{name}"] = Bound(found["all"]["f1"] - found["all"]["f1_other"], least=-F1_LESS)
    return {"throughput": speed, "compared": others, "bounds": bounds}


def main(arguments: Sequence[str]) -> int:
    """Measures and prints; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stage1")
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--model", default="tinysafe", help="an embedded name or a model folder")
    parser.add_argument("--baseline", default=baseline.COMMIT, help="a model folder, or a commit that has one")
    parser.add_argument("--reference", help="another model folder to compare decisions with")
    parser.add_argument("--texts", type=int, help="of each kind of traffic, at most; all held-out ones if not given")
    parser.add_argument("--rounds", type=int, default=5, help="how often each block is timed")
    given = parser.parse_args(arguments)
    keep_to(share_cores().server)
    about, policy = machine(), default_policy()
    with baseline.model_folder(given.baseline, "tinysafe") as folder:
        stages: dict[str, Stage] = {OURS: load_stage(given.model), BASELINE: baseline.plain_stage(folder)}
    if given.reference:
        stages[REFERENCE] = load_stage(given.reference)
    found = measure(stages, held_out(given.data), given.texts, given.rounds, policy)
    names = {name: f"{stage.info.name}@{stage.info.revision}" for name, stage in stages.items()}
    bounds = found.pop("bounds")
    settings = {"texts": given.texts, "rounds": given.rounds, "unsafe_threshold": policy.stage1.unsafe_threshold}
    report = {"bench": "stage1", "models": names, "settings": settings, "machine": about, **found}
    print(json.dumps(report | {"bounds": described(bounds)}))
    return exit_code(bounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
