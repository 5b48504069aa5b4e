"""What scoring costs: the CPU time of a run, by stage -> CPU-seconds, and money, for 1,000 texts.

The time of a stage is that of the threads that ran it, and is known only where the stage computes on them: ONNX Runtime
with one thread a batch, as it serves. What is left of the process's own time is views, tokenizers, merging and the
rest; it is counted whole, though the run reads each text for both stages. Batches are those of a bulk job.
"""

from __future__ import annotations

import time
from typing import Any

from cascade.batching import Batcher, BatchStats
from cascade.pipeline import Pipeline
from stages.remote.client import RemoteStage

SECONDS_AN_HOUR = 3600


class Meter:
    """Counts CPU-seconds from when it was made or restarted."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._stages = {name: batcher for name, batcher in pipeline.stages.items() if _measurable(batcher)}
        self._all = pipeline.stages.keys()
        for name, batcher in self._stages.items():
            batcher.on_batch = lambda stats, name=name: self._add(name, stats)
        self.restart()

    def restart(self) -> None:
        """Forgets what was counted."""
        self._spent = dict.fromkeys(self._stages, 0.0)
        self._began = time.process_time()

    def _add(self, name: str, stats: BatchStats) -> None:
        self._spent[name] += stats.cpu_ms / 1000

    def read(self, rows: int) -> dict[str, float | None]:
        """CPU-seconds for 1,000 of so many rows, of each stage (None where not known) and of the rest."""
        whole = time.process_time() - self._began
        parts: dict[str, float | None] = {name: self._spent.get(name) for name in self._all}
        parts["rest"] = max(0.0, whole - sum(self._spent.values())) if len(self._stages) == len(self._all) else None
        return {name: None if spent is None else 1000 * spent / rows for name, spent in parts.items()}


def of_system(costs: dict[str, float | None], stage1: bool, tokens_of_stage2: float) -> float | None:
    """CPU-seconds for 1,000 texts of a system that asks stage 1 or not, and stage 2 about a share of the tokens."""
    first, second, rest = costs["stage1"], costs["stage2"], costs["rest"]
    if first is None or second is None or rest is None:
        return None
    return first * stage1 + second * tokens_of_stage2 + rest


def money(cpu_seconds: float | None, cpu_hour_price: float | None) -> float | None:
    """The price of CPU-seconds, in the currency of the price of an hour of one CPU."""
    if cpu_seconds is None or cpu_hour_price is None:
        return None
    return cpu_seconds / SECONDS_AN_HOUR * cpu_hour_price


def price_systems(report: dict[str, Any], costs: dict[str, float | None], cpu_hour_price: float | None) -> None:
    """Writes to each system of a report of budgets what 1,000 texts cost it."""
    for system in report["systems"]:
        cpu = of_system(costs, system["system"] != "stage 2 alone", system["escalated_tokens"])
        system["cpu_seconds"], system["price"] = cpu, money(cpu, cpu_hour_price)


def _measurable(batcher: Batcher) -> bool:
    info = batcher.stage.info
    local = info.device == "cpu" and not isinstance(batcher.stage, RemoteStage)
    return local and info.runtime.startswith("onnxruntime")
