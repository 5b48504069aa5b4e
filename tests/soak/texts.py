"""Texts for a soak: harmless ones of the lengths that prompts have, and a share that stage 1 hands to stage 2."""

from __future__ import annotations

import math
import random

from cascade.bench.serving.texts import PROVOKING

PROVOKED = 0.2  # of the texts: so many begin with a sentence that stage 1 flags
WORDS = (  # noqa: SIM905 - reads better
    "please describe how the old stone bridge in our village was built and who paid for it in those days because my "
    "neighbour thinks that a merchant gave most of the money after the flood had carried away the wooden one"
).split()


def make_text(rng: random.Random) -> str:
    """A text, its length log-normal with the median at 22 words; no two are alike."""
    count = min(800, max(1, round(math.exp(rng.gauss(math.log(22), 1.0)))))
    words = [*rng.choices(WORDS, k=count), str(rng.getrandbits(32))]
    return " ".join([PROVOKING, *words] if rng.random() < PROVOKED else words)
