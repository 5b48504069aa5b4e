"""A stage out of a model folder: its tokenizer makes windows, its ONNX file logits, its manifest calibrates them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.errors import ScoreDriftError, StageError
from stages.manifest import Manifest
from stages.runtime.onnx import OnnxNetwork
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Calibration, Encoding, ModelInfo, Platt, Window, WindowScores

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"


class EncoderStage:
    """An encoder with a binary output [batch] and a label output [batch, labels], run by ONNX Runtime."""

    def __init__(self, folder: Path, manifest: Manifest, label_output: str, *, threads: int = 1) -> None:
        self._tokenizer = WindowTokenizer(
            folder / TOKENIZER, window_tokens=manifest.window_tokens, overlap=manifest.overlap
        )
        outputs = ("binary_logit", label_output)
        self._network = OnnxNetwork(folder / MODEL, outputs, threads=threads, pad_id=manifest.pad_id)
        numbers = manifest.calibration
        self._calibration = Calibration(
            Platt(numbers.unsafe.slope, numbers.unsafe.bias),
            tuple(Platt(scale.slope, scale.bias) for scale in numbers.labels),
            numbers.length_penalty,
        )
        self._info = ModelInfo(
            name=manifest.name,
            kind=manifest.kind,
            revision=manifest.revision,
            files=dict(manifest.files),
            taxonomy=manifest.taxonomy,
            labels=tuple(manifest.labels),
            device="cpu",
            runtime=f"onnxruntime-{manifest.quantisation}",
            licence=manifest.licence,
            window_tokens=manifest.window_tokens,
            scripts=tuple(manifest.scripts),
        )

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._info

    @property
    def calibration(self) -> Calibration:
        """How its logits become probabilities."""
        return self._calibration

    def encode(self, text: str) -> Encoding:
        """See :meth:`stages.stage.Stage.encode`."""
        return self._tokenizer.encode(text)

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        """See :meth:`stages.stage.Stage.score`.

        Each window runs by itself. Dynamic quantisation takes its range from the whole batch, so that a text's score
        would depend on whose texts it shares the batch with; and on a CPU a batch is hardly faster than its rows.
        """
        return [self._score(window) for window in windows]

    def _score(self, window: Window) -> WindowScores:
        unsafe, labels = self._network.run([window])
        if not (np.isfinite(unsafe).all() and np.isfinite(labels).all()):
            raise StageError(f"{self._info.name}: a score is not finite")
        return WindowScores(float(unsafe.reshape(-1)[0]), labels[0].astype(np.float64))


def replay_golden(stage: EncoderStage, manifest: Manifest) -> float:
    """Scores the golden texts; returns the largest difference from the manifest, in raw logits.

    Raises:
        ScoreDriftError: it exceeds the tolerance.
    """
    worst = 0.0
    for golden in manifest.golden:
        scores = stage.score(stage.encode(golden.text).windows[:1])[0]
        found = np.array([scores.unsafe, *scores.labels])
        worst = max(worst, float(np.abs(found - np.array([golden.unsafe, *golden.labels])).max()))
    if worst > manifest.tolerance:
        raise ScoreDriftError(
            f"{manifest.name}@{manifest.revision}: the golden texts differ by {worst:.3f} logits on this CPU "
            f"({cpu_flags()}), {manifest.tolerance} are allowed. Export the model again on a machine like this one "
            "(cascade export), or go on knowingly with --allow-score-drift"
        )
    return worst


def cpu_flags() -> str:
    """The instruction sets of this CPU that change how int8 products are computed."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "CPU flags unknown"
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    return " ".join(flag for flag in known if flag in flags) or "none of " + " ".join(known)
