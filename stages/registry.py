"""Finds and loads stages: an embedded model by name or a model folder by path. A new system is one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stages import hazard, tinysafe
from stages.encoder import EncoderStage, replay_golden
from stages.errors import ModelError
from stages.manifest import Manifest
from stages.stage import Stage

WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED: dict[str, Path] = {"tinysafe": WEIGHTS / "tinysafe", "hazard": WEIGHTS / "hazard"}

Loader = Callable[[Path, Manifest, int], EncoderStage]
LOADERS: dict[str, Loader] = {"tinysafe": tinysafe.load, "hazard": hazard.load}


def resolve(spec: str | Path) -> Path:
    """The folder of an embedded name or a path.

    Raises:
        ModelError: neither an embedded model nor a folder.
    """
    if str(spec) in EMBEDDED:
        return EMBEDDED[str(spec)]
    folder = Path(spec)
    if not folder.is_dir():
        raise ModelError(f"{spec}: neither an embedded model ({', '.join(EMBEDDED)}) nor a model folder")
    return folder


def load_stage(spec: str | Path, *, threads: int = 1, allow_score_drift: bool = False) -> Stage:
    """Loads a model after checking every hash, and replays its golden texts.

    Args:
        spec: an embedded name or a model folder.
        threads: intra-op threads of one inference.
        allow_score_drift: serve although the golden texts do not replay within the tolerance.

    Raises:
        ModelError: no such model, or a file is missing or tampered with.
        ScoreDriftError: the golden texts do not replay.
    """
    folder = resolve(spec)
    manifest = Manifest.load(folder)
    manifest.verify(folder)
    if manifest.kind not in LOADERS:
        raise ModelError(f"{folder}: unknown kind {manifest.kind!r}, known are {', '.join(LOADERS)}")
    stage = LOADERS[manifest.kind](folder, manifest, threads)
    if not allow_score_drift:
        replay_golden(stage, manifest)
    return stage
