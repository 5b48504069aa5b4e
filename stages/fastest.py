"""Chooses what runs a model: *installed runtimes* -> each measured on this CPU -> the fastest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from stages.encoder import ONNXRUNTIME, OPENVINO
from stages.errors import DependencyError, ModelError
from stages.manifest import NAME
from stages.registry import load_stage, resolve
from stages.remote.place import is_place
from stages.stage import Stage, Window

BUDGET_S = 0.8  # of measuring; loading comes to it
ROUNDS = 50
TOKENS = (32, 128)  # a question, and a text of a few paragraphs
TEXT = "The kettle is on, and whoever comes by may have a cup of tea with us in the garden. " * 20
# The models were calibrated on ONNX Runtime: what is no faster to speak of is not worth other scores.
WORTH = 0.95


@dataclass(frozen=True)
class Choice:
    """A runtime, "onnxruntime" or "openvino", and why it was chosen."""

    runtime: str
    why: str


def fastest(spec: str | Path, *, allow_score_drift: bool = False) -> Choice:
    """The runtime that scores a model fastest on this CPU.

    What is not installed, or does not come to the same decisions on the golden texts, is not chosen.

    Raises:
        ModelError: the model cannot be used at all.
    """
    if is_place(str(spec)) or not (resolve(spec) / NAME).exists():
        return Choice(ONNXRUNTIME, f"{spec}: nothing to choose from, it is run by what its system needs")
    stages = {ONNXRUNTIME: load_stage(spec, allow_score_drift=allow_score_drift)}
    try:
        stages[OPENVINO] = load_stage(spec, allow_score_drift=allow_score_drift, runtime=OPENVINO)
    except (DependencyError, ModelError) as error:
        return Choice(ONNXRUNTIME, f"{spec}: runtime {stages[ONNXRUNTIME].info.runtime} ({error})")
    taken = measure(stages)
    chosen = OPENVINO if taken[OPENVINO] < WORTH * taken[ONNXRUNTIME] else ONNXRUNTIME
    found = ", ".join(f"{stage.info.runtime} {1000 * taken[name]:.2f} ms" for name, stage in stages.items())
    lengths = " and ".join(map(str, TOKENS))
    return Choice(chosen, f"{spec}: runtime {stages[chosen].info.runtime} ({found} for windows of {lengths} tokens)")


def measure(stages: Mapping[str, Stage]) -> dict[str, float]:
    """Seconds that each stage takes for a window of each length, all together.

    They take turns and the least counts, for whatever else runs on the machine only ever adds to it.
    """
    until = perf_counter() + BUDGET_S
    windows = {name: _windows(stage) for name, stage in stages.items()}
    least = {name: [float("inf")] * len(TOKENS) for name in stages}
    for _ in range(ROUNDS):
        for name, stage in stages.items():
            for index, window in enumerate(windows[name]):
                start = perf_counter()
                stage.score([window])
                least[name][index] = min(least[name][index], perf_counter() - start)
        if perf_counter() > until:
            break
    return {name: sum(seconds) for name, seconds in least.items()}


def _windows(stage: Stage) -> list[Window]:
    ids = stage.encode(TEXT).windows[0].ids
    return [Window(ids[:tokens], 0, 0) for tokens in TOKENS]
