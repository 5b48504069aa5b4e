"""A stage put together: its tokenizer makes windows, its network logits, its calibration probabilities of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.errors import DependencyError, ModelError, ScoreDriftError, StageError
from stages.manifest import CalibrationNumbers, Manifest, Scale
from stages.runtime.onnx import OnnxNetwork
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Calibration, Calibrator, Encoding, Isotonic, ModelInfo, Platt, Window, WindowScores

if TYPE_CHECKING:
    from stages.runtime.openvino import OpenVinoNetwork

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
OPENVINO_TOLERANCE = 0.3  # raw logits from ONNX Runtime's: another way to quantise the same activations


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
    """The stage of a model folder: an exported encoder with a binary and a label output.

    Args:
        folder: the model folder.
        manifest: its manifest.
        label_output: the name of the label output.
        threads: intra-op threads of one inference of ONNX Runtime.
        runtime: "onnxruntime" or "openvino".
        calls: inferences at a time. OpenVINO has room for so many; ONNX Runtime, which has room for any number, gives
            one that is alone the threads of all.

    Raises:
        ModelError: the file is no such network.
        DependencyError: OpenVINO is wanted and not installed.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        label_output: str,
        *,
        threads: int = 1,
        runtime: str = ONNXRUNTIME,
        calls: int = 1,
    ) -> None:
        tokenizer = WindowTokenizer(folder / TOKENIZER, window_tokens=manifest.window_tokens, overlap=manifest.overlap)
        path, outputs, info = folder / MODEL, ("binary_logit", label_output), manifest.info()
        network: Network
        if runtime == ONNXRUNTIME:
            network = OnnxNetwork(path, outputs, threads=threads, calls=calls, pad_id=manifest.pad_id)
        elif runtime == OPENVINO:
            network = openvino = _openvino()(path, outputs, calls=calls, pad_id=manifest.pad_id)
            info = replace(info, runtime=openvino.runtime)
        else:
            raise ModelError(f"{folder}: no runtime {runtime!r}, it is {ONNXRUNTIME} or {OPENVINO}")
        super().__init__(info, calibration_of(manifest.calibration_on(info.runtime)), tokenizer, network)


def _openvino() -> type[OpenVinoNetwork]:
    try:
        from stages.runtime.openvino import OpenVinoNetwork
    except ImportError as error:
        raise DependencyError(
            f"runtime {OPENVINO}: {error.name} is missing: pip install 'safety-cascade[openvino]'"
        ) from error
    return OpenVinoNetwork


def calibration_of(numbers: CalibrationNumbers) -> Calibration:
    """The calibration that a manifest holds."""
    return Calibration(
        calibrator(numbers.unsafe),
        tuple(map(calibrator, numbers.labels)),
        numbers.length_penalty,
        tuple(numbers.label_length_penalties),
    )


def calibrator(scale: Scale) -> Calibrator:
    """The calibrator that a scale of a manifest describes."""
    platt = Platt(scale.slope, scale.bias)
    return Isotonic(platt, tuple(scale.knots)) if scale.knots else platt


def replay_golden(stage: NetworkStage, manifest: Manifest) -> float:
    """Scores the golden texts; returns the largest difference from the manifest, in raw logits.

    A runtime without golden scores of its own is held to ONNX Runtime's: loosely, but to the same decisions.

    Raises:
        ScoreDriftError: it exceeds the tolerance, or a decision differs.
    """
    who, own = f"{manifest.name}@{manifest.revision}", manifest.runtimes.get(stage.info.runtime)
    other = own is None and stage.info.runtime != manifest.info().runtime
    tolerance = OPENVINO_TOLERANCE if other else manifest.tolerance
    calibrators = (stage.calibration.unsafe, *stage.calibration.labels)
    worst, turned = 0.0, 0
    for golden in own.golden if own else manifest.golden:
        scores = stage.score(stage.encode(golden.text).windows[:1])[0]
        found, promised = (scores.unsafe, *scores.labels), (golden.unsafe, *golden.labels)
        worst = max(worst, float(np.abs(np.subtract(found, promised)).max()))
        pairs = zip(calibrators, found, promised, strict=True)
        turned += sum((scale(one) >= 0.5) != (scale(two) >= 0.5) for scale, one, two in pairs)
    if other and (worst > tolerance or turned):
        raise ScoreDriftError(
            f"{who}: on {stage.info.runtime} the golden texts differ by {worst:.3f} logits and {turned} decisions from "
            f"{ONNXRUNTIME} on this CPU ({cpu_flags()}), {tolerance} and none are allowed. Run it on {ONNXRUNTIME}, or "
            "go on knowingly with --allow-score-drift"
        )
    if worst > tolerance:
        again = f"Fit {stage.info.runtime} again (training.runtimes)" if own else "Export the model again"
        again += " on a machine like this one" + ("" if own else " (cascade export)")
        raise ScoreDriftError(
            f"{who}: the golden texts differ by {worst:.3f} logits on this CPU ({cpu_flags()}), {tolerance} are "
            f"allowed. {again}, or go on knowingly with --allow-score-drift"
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
