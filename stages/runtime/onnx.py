"""Runs an exported encoder with ONNX Runtime: one thread for each inference, all of them for one that is alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray

from stages.errors import ModelError, StageError
from stages.runtime.padding import padded
from stages.stage import Window

# Fusions that cost time: with them a sum and the normalisation behind it take seven times as long (docs/LOG.md).
SLOWER = ("SkipLayerNormFusion", "BiasSkipLayerNormFusion")
WIDE = 2  # threads of an inference that is alone, at most: what was measured; more would spin for little
CALM = 16  # calls in a row, each of them alone, behind which the next is expected to be alone


class OnnxNetwork:
    """An ONNX session with inputs ``input_ids`` and ``attention_mask`` [batch, tokens]; tokens may be a fixed number.

    It wants each window by itself. Dynamic quantisation takes its range from the whole batch, so that a text's score
    would depend on whose texts it shares the batch with; and on a CPU a batch is hardly faster than its rows.

    ``run`` may be called from several threads: each call runs on the thread that makes it. A call that is alone finds
    the other cores idle: with ``calls`` above 1 it takes two threads, in a session of its own (a third less time for
    128 tokens), and gives the same scores, since no sum is cut. They spin while it lasts, and no longer.
    Where calls meet, one thread for each does more in all, so that some have to be alone before one is taken to be.

    Raises:
        ModelError: the file is no such network.
    """

    batched = False
    oom_halvings = 0  # it is never given more than one window

    def __init__(
        self, path: Path, outputs: tuple[str, str], *, threads: int = 1, calls: int = 1, pad_id: int = 0
    ) -> None:
        self._session = _session(path, threads)
        wide = min(calls, WIDE)
        self._wide = _session(path, wide, spin=True) if wide > threads else self._session
        self._lock, self._running, self._alone = threading.Lock(), 0, CALM
        found = {node.name for node in [*self._session.get_inputs(), *self._session.get_outputs()]}
        missing = {"input_ids", "attention_mask", *outputs} - found
        if missing:
            raise ModelError(f"{path}: no input or output named {', '.join(sorted(missing))}")
        self._outputs, self._pad_id = list(outputs), pad_id
        width = next(node.shape[1] for node in self._session.get_inputs() if node.name == "input_ids")
        self._width = width if isinstance(width, int) else None  # some exports know one length only

    def run(self, windows: Sequence[Window]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One padded batch of windows -> the two outputs, each [batch, ...].

        Raises:
            StageError: ONNX Runtime failed.
        """
        if self._width is not None and max(map(len, windows)) > self._width:
            raise StageError(f"a window of {max(map(len, windows))} tokens for a network of {self._width}")
        ids, mask = padded(windows, self._pad_id, self._width or 0)
        try:
            with self._turn() as session:
                first, second = session.run(self._outputs, {"input_ids": ids, "attention_mask": mask})
        except Exception as error:
            raise StageError(f"ONNX Runtime failed: {type(error).__name__}") from error
        return first, second

    @contextmanager
    def _turn(self) -> Iterator[ort.InferenceSession]:
        """The session for one call."""
        with self._lock:
            self._alone = 0 if self._running else self._alone + 1
            session = self._wide if self._alone > CALM else self._session
            self._running += 1
        try:
            yield session
        finally:
            with self._lock:
                self._running -= 1


def _session(path: Path, threads: int, *, spin: bool = False) -> ort.InferenceSession:
    """A session on the CPU. Its threads spin only if they may, and only while an inference lasts.

    Raises:
        ModelError: the file is no network.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOWER)
        )
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(f"{path}: not a network that ONNX Runtime can load ({error})") from error


def output_names(path: Path) -> frozenset[str]:
    """The names of a network's outputs.

    Raises:
        ModelError: the file is no network.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(f"{path}: not a network that ONNX Runtime can load ({error})") from error
    return frozenset(node.name for node in session.get_outputs())
