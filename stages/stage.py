"""The Stage protocol: text -> *encode* -> windows -> *score* -> logits. Nothing here knows about serving."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float64]
GPU_BATCH_TOKENS, CPU_BATCH_TOKENS = 16384, 256  # what is best scored together: on a CPU a full window, or as much


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a text that fits a model at once: token ids with special tokens, and its code-point range.

    ``adapter`` names the adapter that is to score it, one of :attr:`ModelInfo.adapters`; empty is the model's default.
    """

    ids: tuple[int, ...]
    start: int
    end: int
    adapter: str = ""

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


class Calibrator(Protocol):
    """A strictly increasing map of raw logits, so that ranking by the raw and by the calibrated logit is the same."""

    def logit(self, raw: float) -> float:
        """The calibrated logit of a raw one."""

    def __call__(self, raw: float) -> float:
        """The calibrated probability of a raw logit, 0 to 1."""


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


@dataclass(frozen=True)
class Isotonic:
    """A strictly increasing calibrator of free shape: Platt's logit, bent by straight lines from knot to knot.

    A knot is a logit of ``base`` and the calibrated logit there; both rise from knot to knot. Beyond the outermost
    knots, where there was nothing to fit, the calibrated logit goes on in parallel to ``base``.

    Zadrozny and Elkan (2002), "Transforming classifier scores into accurate multiclass probability estimates".
    """

    base: Platt
    knots: tuple[tuple[float, float], ...]

    def logit(self, raw: float) -> float:
        """The calibrated logit of a raw one."""
        z = self.base.logit(raw)
        after = bisect_right(self.knots, z, key=lambda knot: knot[0])
        if after in (0, len(self.knots)):
            x, y = self.knots[min(after, len(self.knots) - 1)]
            return y + (z - x)
        (x0, y0), (x1, y1) = self.knots[after - 1], self.knots[after]
        return y0 + (y1 - y0) * (z - x0) / (x1 - x0)

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
    for each doubling of the number of windows, ``label_length_penalties`` off the largest logit of each label; without
    them every label pays ``length_penalty``. ``adapters`` are those of adapters that have their own.
    """

    unsafe: Calibrator = field(default_factory=Platt)
    labels: tuple[Calibrator, ...] = ()
    length_penalty: float = 0.0
    label_length_penalties: tuple[float, ...] = ()
    adapters: Mapping[str, Calibration] = field(default_factory=dict, repr=False)  # a digest is of the model's own

    @property
    def fitted(self) -> bool:
        """Whether any of it was fitted; without that probabilities are the logits' own."""
        penalised = self.length_penalty != 0 or any(self.label_length_penalties)
        return penalised or any(calibrator != Platt() for calibrator in (self.unsafe, *self.labels))

    def of(self, adapter: str) -> Calibration:
        """The calibration of an adapter; "" is the model's default one."""
        return self.adapters.get(adapter, self)


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a loaded model: the fields of ``cascade.v1.Model`` and what the cascade has to know of it.

    ``scripts`` are those that it reads ("*": all). A model that names hazards but cannot tell safe from unsafe has
    ``judges`` False: its ``WindowScores.unsafe`` is its largest label logit, for information, and as stage 2 it leaves
    the probability to stage 1. ``adapters`` are the names that a window may ask for.
    """

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
    judges: bool = True
    adapters: tuple[str, ...] = ()


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
            ModelError: a window asks for an adapter that the model does not have.
            StageError: the runtime failed, or a score is not finite.
        """
