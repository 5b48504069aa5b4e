"""A stage put together: its tokenizer makes windows, its network logits, its calibration probabilities of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.errors import ModelError, ScoreDriftError, StageError
from stages.manifest import CalibrationNumbers, Manifest, Scale
from stages.runtime.onnx import OnnxNetwork
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Calibration, Calibrator, Encoding, Isotonic, ModelInfo, Platt, Window, WindowScores

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"


class Tokenizer(Protocol):
    """Cuts texts into windows."""

    def encode(self, text: str) -> Encoding:
        """See :meth:`stages.stage.Stage.encode`."""


class Network(Protocol):
    """Runs windows.

    ``batched`` is False for one that wants each window by itself; ``oom_halvings`` counts batches that were halved
    because the device had no memory for them.
    """

    batched: bool
    oom_halvings: int

    def run(self, windows: Sequence[Window]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Windows -> unsafe logits [batch] and label logits [batch, labels], any float type.

        Raises:
            StageError: the runtime failed.
        """


class NetworkStage:
    """A stage out of a tokenizer and a network."""

    def __init__(self, info: ModelInfo, calibration: Calibration, tokenizer: Tokenizer, network: Network) -> None:
        self._info, self._calibration = info, calibration
        self._tokenizer, self._network = tokenizer, network

    @property
    def info(self) -> ModelInfo:
        """What the model is."""
        return self._info

    @property
    def calibration(self) -> Calibration:
        """How its logits become probabilities."""
        return self._calibration

    @property
    def tokenizer(self) -> Tokenizer:
        """What makes the windows, for a process that cuts texts for this stage."""
        return self._tokenizer

    def with_(self, info: ModelInfo, calibration: Calibration) -> NetworkStage:
        """The same tokenizer and network under another name and calibration."""
        return NetworkStage(info, calibration, self._tokenizer, self._network)

    @property
    def oom_halvings(self) -> int:
        """Batches that the network has halved for lack of memory."""
        return self._network.oom_halvings

    def encode(self, text: str) -> Encoding:
        """See :meth:`stages.stage.Stage.encode`."""
        return self._tokenizer.encode(text)

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        """See :meth:`stages.stage.Stage.score`."""
        for window in windows:
            if window.adapter and window.adapter not in self._info.adapters:
                raise ModelError(f"{self._info.name} has no adapter {window.adapter!r}")
        if self._network.batched:
            return self._score(windows) if windows else []
        return [self._score([window])[0] for window in windows]

    def _score(self, windows: Sequence[Window]) -> list[WindowScores]:
        unsafe, labels = self._network.run(windows)
        unsafe, labels = unsafe.reshape(len(windows)).astype(np.float64), labels.astype(np.float64)
        if not (np.isfinite(unsafe).all() and np.isfinite(labels).all()):
            raise StageError(f"{self._info.name}: a score is not finite")
        return [WindowScores(float(logit), row) for logit, row in zip(unsafe, labels, strict=True)]


class EncoderStage(NetworkStage):
    """The stage of a model folder: an exported encoder with a binary and a label output, run by ONNX Runtime."""

    def __init__(self, folder: Path, manifest: Manifest, label_output: str, *, threads: int = 1) -> None:
        tokenizer = WindowTokenizer(folder / TOKENIZER, window_tokens=manifest.window_tokens, overlap=manifest.overlap)
        outputs = ("binary_logit", label_output)
        network = OnnxNetwork(folder / MODEL, outputs, threads=threads, pad_id=manifest.pad_id)
        super().__init__(manifest.info(), calibration_of(manifest.calibration), tokenizer, network)


def calibration_of(numbers: CalibrationNumbers) -> Calibration:
    """The calibration that a manifest holds."""
    return Calibration(calibrator(numbers.unsafe), tuple(map(calibrator, numbers.labels)), numbers.length_penalty)


def calibrator(scale: Scale) -> Calibrator:
    """The calibrator that a scale of a manifest describes."""
    platt = Platt(scale.slope, scale.bias)
    return Isotonic(platt, tuple(scale.knots)) if scale.knots else platt


def replay_golden(stage: NetworkStage, manifest: Manifest) -> float:
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
