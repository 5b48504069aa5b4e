"""The kind "margin": a text is worth stage 2 where stage 1 is torn about it, over all or about any of its categories.

Deferral by margin is the classical baseline of Jitkrittum et al. (2023), "When does confidence-based cascade deferral
suffice?"; here each label has a margin of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cascade.routing.logits import logit
from cascade.routing.router import Signals

UNSAFE = "unsafe"  # the name of the head that judges the text as a whole, among those of the categories


@dataclass(frozen=True)
class Margins:
    """How near a text lies to where stage 1 changes its mind: 1 on a boundary, 1/2 at the edge of a margin.

    Attributes:
        widths: for each label, :data:`UNSAFE` among them, how many logits from its boundary the margin ends. Labels
            that stage 1 does not have say nothing.
        unsafe_threshold: the boundary of :data:`UNSAFE`, a probability. Categories change at 1/2.
    """

    widths: Mapping[str, float]
    unsafe_threshold: float

    def __call__(self, signals: Signals) -> float:
        """Falls from 1 to 0 with the distance, in margins, to the nearest boundary: ``1 / (1 + distance)``."""
        distances = [
            abs(logit(signals.categories[label])) / width
            for label, width in self.widths.items()
            if label in signals.categories
        ]
        if UNSAFE in self.widths:
            distances.append(abs(logit(signals.stage1) - self._boundary) / self.widths[UNSAFE])
        return 1.0 / (1.0 + min(distances)) if distances else 0.0

    @cached_property
    def _boundary(self) -> float:
        return logit(self.unsafe_threshold)
