"""The Stage protocol: text -> *encode* -> windows -> *score* -> logits. Nothing here knows about serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a text that fits a model at once: token ids with special tokens, and its code-point range."""

    ids: tuple[int, ...]
    start: int
    end: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as overlapping windows that cover all of it.

    ``tokens`` counts the text's own tokens (no special ones, overlaps once), ``unknown`` those of them that the
    vocabulary does not have.
    """

    windows: tuple[Window, ...]
    tokens: int
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class WindowScores:
    """Raw logits of one window: the binary head's and one for each of the stage's labels."""

    unsafe: float
    labels: Logits


@dataclass(frozen=True)
class Platt:
    """A strictly increasing calibrator: logit -> probability, ``sigmoid(slope * logit + bias)``, slope > 0.

    Platt (1999), "Probabilistic outputs for support vector machines".
    """

    slope: float = 1.0
    bias: float = 0.0

    def logit(self, raw: float) -> float:
        """The calibrated logit of a raw one."""
        return self.slope * raw + self.bias

    def __call__(self, raw: float) -> float:
        """The calibrated probability of a raw logit, 0 to 1."""
        return sigmoid(self.logit(raw))


def sigmoid(logit: float) -> float:
    """The logistic function, without overflow."""
    return float(0.5 * (1.0 + np.tanh(0.5 * logit)))


@dataclass(frozen=True)
class Calibration:
    """How a stage's raw logits become probabilities, fitted on the model that serves (quantised, on held-out data).

    ``length_penalty`` is what :func:`cascade.merging.segments.length_calibrated` takes off the largest window logit
    for each doubling of the number of windows.
    """

    unsafe: Platt = field(default_factory=Platt)
    labels: tuple[Platt, ...] = ()
    length_penalty: float = 0.0


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a loaded model; the fields of ``cascade.v1.Model`` and the scripts that it reads ("*": all)."""

    name: str
    kind: str
    revision: str
    files: dict[str, str]
    taxonomy: str
    labels: tuple[str, ...]
    device: str
    runtime: str
    licence: str
    window_tokens: int
    scripts: tuple[str, ...] = ("*",)


@runtime_checkable
class Stage(Protocol):
    """A classifier. Both methods are pure, block, and may be called from several threads at once."""

    @property
    def info(self) -> ModelInfo:
        """What the model is."""

    @property
    def calibration(self) -> Calibration:
        """How its logits become probabilities."""

    def encode(self, text: str) -> Encoding:
        """Cuts a text into windows that cover all of it; an empty text is one window of special tokens."""

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        """Scores windows in one padded batch, in order.

        Raises:
            StageError: the runtime failed, or a score is not finite.
        """
