"""What a routing decision costs: the time of one of each kind against one inference of stage 1 on a text of 32 tokens.

    python -m tests.bench.routers [ROUNDS]

The routers are those of whole policies, reasons and features and all; the delegation network has the size and the
features that `training.fit_delegation` gives it. They take turns with stage 1, on one thread; the least time
counts. Ends in one line of JSON; a router is meant to cost less than 5 % of stage 1.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cascade.policy import Policy, default_policy, parse
from cascade.routing.delegation import TOKENS
from cascade.routing.margin import UNSAFE
from cascade.routing.router import Signals
from stages.encoder import cpu_flags
from stages.fastest import TEXT
from stages.registry import load_stage
from stages.stage import Stage, Window
from stages.taxonomy import TINYSAFE_CATEGORIES
from tests.routing.networks import random_network, route_table
from training.delegation import NETS, UNITS

HEAD = 'schema = 1\nname = "p"\n'
LENGTH = 32  # tokens of the text
AT_ONCE = 100  # decisions that are timed together: one is too short for a clock
ROUNDS = 200


def policies() -> dict[str, Policy]:
    """A policy with each kind of router."""
    features = [UNSAFE, *TINYSAFE_CATEGORIES, TOKENS]
    rng, units = np.random.default_rng(0), NETS * UNITS
    network = random_network(
        units=units,
        features=features,
        mean=[-2.0] * len(features),
        scale=[2.0] * len(features),
        hidden=rng.normal(size=(units, len(features))).tolist(),
    )
    margins = "\n".join(f"{label} = 1.0" for label in features[:-1])
    return {
        "band": default_policy(),
        "margin": parse(f'{HEAD}[route]\nkind = "margin"\n[route.margins]\n{margins}\n'),
        "delegation": parse(HEAD + route_table(network)),
    }


def measure(stage: Stage, rounds: int = ROUNDS) -> dict[str, Any]:
    """Microseconds of stage 1 and of a decision of each kind, and the decisions as shares of stage 1."""
    window = Window(stage.encode(TEXT).windows[0].ids[:LENGTH], 0, 0)
    signals = Signals(0.2, dict.fromkeys(TINYSAFE_CATEGORIES, 0.1), tokens=LENGTH)
    routers = {kind: policy.router for kind, policy in policies().items()}
    work: dict[str, Callable[[], object]] = {"stage1": lambda: stage.score([window])}
    work |= {kind: lambda router=router: [router.route(signals) for _ in range(AT_ONCE)]  # type: ignore[misc]
             for kind, router in routers.items()}  # fmt: skip
    least = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, do in work.items():
            started = time.perf_counter()
            do()
            least[name] = min(least[name], time.perf_counter() - started)
    return report(least["stage1"], {kind: least[kind] / AT_ONCE for kind in routers})


def report(stage1: float, decisions: Mapping[str, float]) -> dict[str, Any]:
    """The figures of some seconds."""
    return {
        "stage1_us": round(1e6 * stage1, 2),
        "decision_us": {kind: round(1e6 * seconds, 3) for kind, seconds in decisions.items()},
        "share_of_stage1": {kind: round(seconds / stage1, 5) for kind, seconds in decisions.items()},
    }


def main() -> None:
    """Measures and prints."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    stage = load_stage("tinysafe", threads=1)
    model = f"{stage.info.name}@{stage.info.revision}"
    print(json.dumps({"cpu": cpu_flags(), "model": model, "tokens": LENGTH, **measure(stage, rounds)}))


if __name__ == "__main__":
    main()
