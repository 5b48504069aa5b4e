"""Finds and loads stages: an embedded model by name, a model folder, a folder as published, a hub id, an address."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from stages import hazard, hub, tinysafe
from stages.encoder import ONNXRUNTIME, NetworkStage, calibration_of, replay_golden
from stages.errors import DependencyError, ModelError
from stages.manifest import NAME, Manifest
from stages.published import recognise
from stages.remote.place import is_place
from stages.stage import Stage
from stages.trained import NAME as TRAINED
from stages.trained import Trained

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED: dict[str, Path] = {"tinysafe": WEIGHTS / "tinysafe", "hazard": WEIGHTS / "hazard"}


class Loader(Protocol):
    """Loads the stage of a model folder whose files are intact; see :class:`stages.encoder.EncoderStage`."""

    def __call__(
        self, folder: Path, manifest: Manifest, threads: int, runtime: str = ONNXRUNTIME, calls: int = 1
    ) -> NetworkStage:
        """The stage."""


LOADERS: dict[str, Loader] = {"tinysafe": tinysafe.load, "hazard": hazard.load}


def resolve(spec: str | Path) -> Path:
    """The folder of an embedded name, a path or a hub id, which is fetched if the cache does not hold it.

    Raises:
        ModelError: none of these.
    """
    if str(spec) in EMBEDDED:
        return EMBEDDED[str(spec)]
    folder = Path(spec)
    if folder.is_dir():
        return folder
    if folder.exists() or not hub.is_hub_id(str(spec)):
        raise ModelError(
            f"{spec}: neither an embedded model ({', '.join(EMBEDDED)}), nor a model folder, nor a hub id (owner/name)"
        )
    return hub.folder_of(str(spec))


def load_stage(
    spec: str | Path,
    *,
    threads: int = 1,
    device: str = "cpu",
    dtype: str | None = None,
    allow_score_drift: bool = False,
    runtime: str = ONNXRUNTIME,
    calls: int = 1,
) -> Stage:
    """Loads a model. A folder with a manifest is checked hash by hash, and its golden texts are replayed.

    Args:
        spec: an embedded name, a model folder, a folder as one of the systems publishes it, a hub id, or the address
            of a stage on another machine, see :mod:`stages.remote.place`.
        threads: intra-op threads of one inference of ONNX Runtime.
        device: "cpu", "cuda" or "cuda:N"; a folder with a manifest runs on the CPU only.
        dtype: "float32" or "bfloat16" for what torch runs; None for what the device does best.
        allow_score_drift: serve although the golden texts do not replay within the tolerance.
        runtime: what runs a folder with a manifest: "onnxruntime" or "openvino".
        calls: inferences at a time: OpenVINO lets others wait; ONNX Runtime gives one that is alone two threads.

    Raises:
        ModelError: no such model, a file is missing or tampered with, or it is none that OpenVINO runs.
        ScoreDriftError: the golden texts do not replay.
        DependencyError: torch or OpenVINO is needed and missing, or there is no such device.
        StageUnavailableError: there is nobody at the address.
    """
    if is_place(str(spec)):
        _refuse(spec, runtime)
        from stages.remote.client import open_remote  # takes gRPC, which nothing else here does

        return open_remote(str(spec))
    folder = resolve(spec)
    if not (folder / NAME).exists():
        _refuse(spec, runtime)
        return _load_published(folder, device, dtype)
    manifest = Manifest.load(folder)
    manifest.verify(folder)
    if manifest.kind not in LOADERS:
        raise ModelError(f"{folder}: unknown kind {manifest.kind!r}, known are {', '.join(LOADERS)}")
    if device != "cpu":
        raise ModelError(f"{folder}: a quantised model runs on the CPU, not on {device}")
    stage = LOADERS[manifest.kind](folder, manifest, threads, runtime, calls)
    if not allow_score_drift:
        replay_golden(stage, manifest)
    return stage


def _refuse(spec: str | Path, runtime: str) -> None:
    if runtime != ONNXRUNTIME:
        raise ModelError(f"{spec}: {runtime} runs the embedded models and model folders (cascade export) only")


def _load_published(folder: Path, device: str, dtype: str | None) -> Stage:
    system = recognise(folder)
    try:
        stage = system.load(folder, device=device, dtype=dtype)
    except ImportError as error:
        raise DependencyError(
            f"{system.name} needs {error.name}: pip install 'safety-cascade[gpu]' (its torch runs on a CPU too)"
        ) from error
    trained = Trained.load(folder)
    if trained is None:
        return stage
    other = sorted(name for name, digest in trained.base_files.items() if stage.info.files.get(name) != digest)
    if other:
        raise ModelError(f"{folder}: trained on another base, whose {other[0]} is not the same")
    calibration = stage.calibration
    if trained.calibration is not None:
        calibration = calibration_of(trained.calibration)
        if len(calibration.labels) != len(stage.info.labels):
            raise ModelError(
                f"{folder / TRAINED}: calibrates {len(calibration.labels)} labels, "
                f"the model has {len(stage.info.labels)}"
            )
    return stage.with_(trained.info(stage.info), calibration)
