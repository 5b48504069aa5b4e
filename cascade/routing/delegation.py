"""The kind "delegation": a small network on what stage 1 says foresees whether stage 2 would mend its verdict.

SafeRoute (Lee et al. 2025, arXiv 2502.12464) learns to tell where the small guard errs and the large one does not;
Calibrate-Then-Delegate (arXiv 2604.14251) counts what stage 2 would spoil, too. So does this: the worth of stage 2 is
its chance to mend less its chance to spoil. ``python -m training.fit_delegation`` fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from cascade.routing.logits import logit
from cascade.routing.margin import UNSAFE
from cascade.routing.router import Signals

TOKENS = "tokens"  # the name of the length among the features
REACH = 4.0  # standard deviations: what lies further out than anything seen counts as if it lay there
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Delegation:
    """A network with one hidden layer, ``softmax(output @ tanh(hidden @ x + hidden_bias) + output_bias)``.

    Attributes:
        features: names of stage 1's labels, :data:`UNSAFE` and :data:`TOKENS`, in the order of the columns.
        mean: of each feature where it was fitted; ``scale``: its standard deviation.
        hidden: weights of shape (units, features), with ``hidden_bias`` of shape (units,).
        output: weights of shape (3, units), with ``output_bias`` of shape (3,): stage 2 would spoil the verdict, leave
            it, mend it.
    """

    features: tuple[str, ...]
    mean: Array
    scale: Array
    hidden: Array
    hidden_bias: Array
    output: Array
    output_bias: Array

    def __call__(self, signals: Signals) -> float:
        """From 0, stage 2 would surely spoil the verdict, over 1/2, it can go either way, to 1, it would mend it."""
        return float(self.worth(features(signals, self.features)))

    def worth(self, x: Array) -> Array:
        """The same for many texts at once: features of shape (..., features) to worths of shape (...)."""
        standard = np.clip((x - self.mean) / self.scale, -REACH, REACH)
        logits = np.tanh(standard @ self.hidden.T + self.hidden_bias) @ self.output.T + self.output_bias
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        worth: Array = (1 + shares[..., 2] - shares[..., 0]) / 2
        return worth


def features(signals: Signals, names: Sequence[str]) -> Array:
    """What a network sees of a text: calibrated logits, and the length in doublings."""
    known = {UNSAFE: signals.stage1, **signals.categories}
    return np.array([log2(1 + signals.tokens) if name == TOKENS else logit(known[name]) for name in names])
