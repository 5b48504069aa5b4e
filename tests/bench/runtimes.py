"""Speed and decisions of OpenVINO against ONNX Runtime: windows a second of each stage, and verdicts on our own texts.

    python -m tests.bench.runtimes [TEXTS]

The runtimes take turns, one window at a time on one thread; the least time counts. Then every TEXTS-th line of
training/corpus/{harmless,hazards} is judged by a cascade on each. Needs the extra `openvino`. Ends in one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from cascade.build import build_pipeline
from cascade.v1 import check_pb2
from stages.encoder import ONNXRUNTIME, OPENVINO, cpu_flags
from stages.fastest import TEXT, TOKENS
from stages.registry import EMBEDDED, load_stage
from stages.runtime.onnx import OnnxNetwork
from stages.runtime.openvino import OpenVinoNetwork
from stages.stage import Window

CORPUS = Path(__file__).parents[2] / "training" / "corpus"
OUTPUTS = {"tinysafe": ("binary_logit", "category_logits"), "hazard": ("binary_logit", "hazard_logits")}
ROUNDS = 60
AT_ONCE = 32


def speed(model: str) -> dict[str, dict[str, float]]:
    """Runtime -> tokens of a window -> windows a second."""
    path, outputs = EMBEDDED[model] / "model.onnx", OUTPUTS[model]
    networks = {
        "onnxruntime-int8": OnnxNetwork(path, outputs),
        "openvino-int8": OpenVinoNetwork(path, outputs, bf16=False),
        "openvino-bf16": OpenVinoNetwork(path, outputs, bf16=True),
    }
    ids = load_stage(model).encode(TEXT).windows[0].ids
    windows = {str(tokens): Window(ids[:tokens], 0, 0) for tokens in TOKENS}
    least = {name: dict.fromkeys(windows, float("inf")) for name in networks}
    for _ in range(ROUNDS):
        for name, network in networks.items():
            for tokens, window in windows.items():
                start = time.perf_counter()
                network.run([window])
                least[name][tokens] = min(least[name][tokens], time.perf_counter() - start)
    return {name: {tokens: round(1 / taken, 1) for tokens, taken in times.items()} for name, times in least.items()}


async def verdicts(runtime: str, texts: list[str]) -> list[check_pb2.CheckResponse]:
    """What the default cascade says of each text, both stages on one runtime."""
    pipeline = build_pipeline(runtimes={"stage1": runtime, "stage2": runtime})
    try:
        found = []
        for start in range(0, len(texts), AT_ONCE):
            batch = [check_pb2.CheckRequest(text=text) for text in texts[start : start + AT_ONCE]]
            found += await asyncio.gather(*(pipeline.check(request) for request in batch))
        return found
    finally:
        await pipeline.close()


def agreement(texts: list[str]) -> dict[str, Any]:
    """How many verdicts, and how many of the ways to them, are equal on both runtimes."""
    pairs = list(zip(*(asyncio.run(verdicts(name, texts)) for name in (ONNXRUNTIME, OPENVINO)), strict=True))

    return {
        "texts": len(texts),
        "equal_verdicts": sum(a.verdict == b.verdict for a, b in pairs) / len(pairs),
        "equal_escalation": sum(len(a.stages) == len(b.stages) for a, b in pairs) / len(pairs),
        "unsafe_onnxruntime": sum(a.verdict == check_pb2.VERDICT_UNSAFE for a, _ in pairs),
        "unsafe_openvino": sum(b.verdict == check_pb2.VERDICT_UNSAFE for _, b in pairs),
        "largest_difference": max(abs(a.unsafe_probability - b.unsafe_probability) for a, b in pairs),
    }


def main() -> None:
    """Measures and prints."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    report: dict[str, Any] = {"cpu": cpu_flags(), "windows_per_second": {model: speed(model) for model in EMBEDDED}}
    for kind in ("harmless", "hazards"):
        lines = [line for path in sorted((CORPUS / kind).glob("*.txt")) for line in path.read_text().splitlines()]
        report[kind] = agreement([line for line in lines if line.strip() and line[0] != "#"][::every])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
