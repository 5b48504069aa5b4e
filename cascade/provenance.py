"""What a score hangs on beside the text: *model, runtime, calibration, adapter, pooling, code* -> a digest.

Scores are kept, in logs and beside tuned policies, and thresholds are chosen by them later. They say something of what
is served now only where all of this is the same.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from weakref import WeakKeyDictionary

from cascade.batching import Batcher
from cascade.policy import calibration_digest, fingerprint

DIGITS = 16  # of the digest in an answer
# The sources by which a text becomes windows and their scores one: of the text's views, of triggers, of tokens.
SOURCES = {
    "cascade": ("text", "content.py", "readings.py", "scoring.py", "merging/segments.py", "routing/triggers.py"),
    "stages": ("contents.py", "encoder.py", "stage.py", "runtime/tokens.py", "runtime/windows.py"),
}

_known: WeakKeyDictionary[Batcher, dict[tuple[str, str], str]] = WeakKeyDictionary()


@cache
def reading() -> str:
    """SHA-256 of the code that reads texts."""
    digest = hashlib.sha256()
    for package, names in SOURCES.items():
        for name in names:
            for path in _files(resources.files(package).joinpath(*name.split("/"))):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def scoring(batcher: Batcher, pooling: str, adapter: str = "") -> str:
    """The digest of what a stage scores, as answers have it; ``pooling`` is the policy's ``merge.segments``."""
    known = _known.setdefault(batcher, {})
    if (pooling, adapter) not in known:
        stage = batcher.stage
        calibration = calibration_digest(stage.calibration.of(adapter))
        parts = (fingerprint(stage.info.files), stage.info.runtime, calibration, pooling, adapter, reading())
        known[pooling, adapter] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGITS]
    return known[pooling, adapter]


def _files(path: Traversable) -> list[Traversable]:
    """A module's file, or those of a package in order of name."""
    if path.is_file():
        return [path]
    return sorted((inside for inside in path.iterdir() if inside.name.endswith(".py")), key=lambda inside: inside.name)
