"""CPU time of the cascade against that of always asking stage 2, now and before anything was done for its speed.

    python -m tests.bench.cost --data DIR [--stage1 MODEL] [--stage2 MODEL] [--baseline DIR-OR-COMMIT]
                               [--texts N] [--rounds N]

Real prompts that no embedded model trained on (the chat rows of training/held_out.py) go through four pipelines in
turn, each in this process with one thread a stage and without a cache: stage 1 alone, stage 2 alone, the cascade under
the default policy, and stage 2 alone as an earlier commit had it, on a session as ONNX Runtime makes it. What counts is
the CPU time of the process, views, tokenizers and merging included: of each pipeline the median over the rounds.

Target: the cascade costs at most c1/c2 + the share escalated + 0.03 of stage 2 alone, and at most 0.4 of the earlier
stage 2. Ends in one line of JSON; exits 1 where a target is missed. To read and split the sets takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from cascade.batching import Batcher
from cascade.bench.serving.process import keep_to, share_cores
from cascade.bench.serving.report import machine
from cascade.bulk import check_patiently, in_order
from cascade.content import check_request
from cascade.limits import Limits
from cascade.pipeline import Pipeline
from cascade.policy import Policy, PolicyStore, default_policy
from cascade.v1.check_pb2 import CheckResponse
from stages.registry import load_stage
from stages.stage import Stage
from tests.bench import baseline
from tests.bench.bounds import Bound, described, exit_code
from tests.bench.stage1 import some
from training.held_out import held_out

IN_FLIGHT = 16
MORE, OF_BASELINE = 0.03, 0.4
SYSTEMS = {
    "stage1": ("stage1", None),
    "stage2": ("stage2", None),
    "cascade": ("stage1", "stage2"),
    "baseline": ("baseline", None),
}


async def answers(pipeline: Pipeline, texts: Sequence[str]) -> list[CheckResponse]:
    """What a pipeline says of each text, some of them at a time."""
    found: list[CheckResponse] = []
    await in_order(
        texts,
        lambda text: check_patiently(pipeline, check_request(text)),
        lambda _, answer: found.append(answer),
        in_flight=IN_FLIGHT,
        characters=len,
    )
    return found


async def measure(stages: dict[str, Stage], texts: Sequence[str], rounds: int, policy: Policy) -> dict[str, Any]:
    """CPU seconds of each round of each system, and the share that the cascade escalates.

    ``stages`` are stage1, stage2 and baseline.
    """
    batchers = {name: Batcher(stage, threads=1) for name, stage in stages.items()}
    pipelines = {
        name: Pipeline(batchers[first], batchers[second] if second else None, PolicyStore([policy]), Limits())
        for name, (first, second) in SYSTEMS.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in pipelines}
    escalated = 0.0
    try:
        for pipeline in pipelines.values():
            await answers(pipeline, texts[:IN_FLIGHT])  # what is done once only
        for _ in range(rounds):
            for name, pipeline in pipelines.items():
                before = time.process_time()
                found = await answers(pipeline, texts)
                spent[name].append(time.process_time() - before)
                if any(answer.degraded for answer in found):
                    raise RuntimeError(f"{name}: an answer is degraded, so that its cost is not the whole")
                if name == "cascade":
                    escalated = fmean(answer.route.escalated for answer in found)
    finally:
        for batcher in batchers.values():
            await batcher.close()
    return {"cpu_s": spent, "escalated": escalated}


def judge(cpu_s: dict[str, list[float]], escalated: float) -> dict[str, Bound]:
    """The two bounds, of medians."""
    cost = {name: median(rounds) for name, rounds in cpu_s.items()}
    most = cost["stage1"] / cost["stage2"] + escalated + MORE
    return {
        "cascade_to_stage2": Bound(cost["cascade"] / cost["stage2"], most=most),
        "cascade_to_baseline": Bound(cost["cascade"] / cost["baseline"], most=OF_BASELINE),
    }


def main(arguments: Sequence[str]) -> int:
    """Measures and prints; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cost")
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--stage1", default="tinysafe", help="an embedded name or a model folder")
    parser.add_argument("--stage2", default="hazard", help="an embedded name or a model folder")
    parser.add_argument("--baseline", default=baseline.COMMIT, help="stage 2: a model folder, or a commit that has one")
    parser.add_argument("--texts", type=int, help="at most; all held-out prompts if not given")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    keep_to(share_cores().server)
    about = machine()
    with baseline.model_folder(given.baseline, "hazard") as folder:
        stages: dict[str, Stage] = {"baseline": baseline.plain_stage(folder)}
    stages |= {"stage1": load_stage(given.stage1), "stage2": load_stage(given.stage2)}
    held = held_out(given.data)
    texts = [held.rows[row].text for row in some(held.kinds()["chat"].tolist(), given.texts)]
    found = asyncio.run(measure(stages, texts, given.rounds, default_policy()))
    bounds = judge(found["cpu_s"], found["escalated"])
    report = {
        "bench": "cost",
        "models": {name: f"{stage.info.name}@{stage.info.revision}" for name, stage in stages.items()},
        "machine": about,
        "texts": len(texts),
        "rounds": given.rounds,
        "cpu_ms_a_text": {name: round(1e3 * median(spent) / len(texts), 3) for name, spent in found["cpu_s"].items()},
        "escalated": round(found["escalated"], 4),
        "bounds": described(bounds),
    }
    print(json.dumps(report))
    return exit_code(bounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
