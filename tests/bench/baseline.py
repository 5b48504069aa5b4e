"""Embedded models as an earlier commit had them, on a session as ONNX Runtime makes it: what gains are counted from."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stages.encoder import MODEL, TOKENIZER, NetworkStage, calibration_of
from stages.manifest import Manifest
from stages.runtime.onnx import output_names
from stages.runtime.padding import padded
from stages.runtime.tokens import WindowTokenizer
from stages.stage import Window

ROOT = Path(__file__).parents[2]
COMMIT = "183122c"  # the first embedded models, before anything was done for their speed
WEIGHTS = "stages/weights"


@contextmanager
def model_folder(source: str, name: str) -> Iterator[Path]:
    """The model folder at a path, or that of an embedded model as a commit, branch or tag has it.

    Raises:
        SystemExit: it is neither; a shallow clone has only its newest commits.
    """
    if Path(source).is_dir():
        yield Path(source)
        return
    inside = f"{WEIGHTS}/{name}"
    done = subprocess.run(
        ["git", "archive", "--format=tar", source, inside], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{source}: neither a model folder nor a commit with {inside}: {done.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder, inside)


class PlainNetwork:
    """A session with all that ONNX Runtime does by itself, every fusion among it, on one thread; window by window."""

    batched = False
    oom_halvings = 0

    def __init__(self, path: Path, outputs: tuple[str, str], pad_id: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs, self._pad_id = list(outputs), pad_id

    def run(self, windows: Sequence[Window]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One padded batch of windows -> the two outputs, each [batch, ...]."""
        ids, mask = padded(windows, self._pad_id)
        first, second = self._session.run(self._outputs, {"input_ids": ids, "attention_mask": mask})
        return first, second


def plain_stage(folder: Path) -> NetworkStage:
    """The stage of a model folder on such a session.

    Raises:
        ModelError: it is no model folder, or a file is missing or damaged.
    """
    manifest = Manifest.load(folder)
    manifest.verify(folder)
    (labels,) = output_names(folder / MODEL) - {"binary_logit"}
    return NetworkStage(
        manifest.info(),
        calibration_of(manifest.calibration),
        WindowTokenizer(folder / TOKENIZER, window_tokens=manifest.window_tokens, overlap=manifest.overlap),
        PlainNetwork(folder / MODEL, ("binary_logit", labels), manifest.pad_id),
    )
