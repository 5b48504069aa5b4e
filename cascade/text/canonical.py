"""The canonical form: a text as it would read without its disguises.

raw -> plain characters -> composed letters -> joined spelling -> squeezed repeats -> Latin look-alikes -> letters for
digits -> calm case -> canonical. What one step uncovers may be work for an earlier one, so the steps go round until
nothing changes.
"""

from __future__ import annotations

from cascade.text import case, characters, confusables, leet, marks, repeats, spacing
from cascade.text.traced import Traced

_STEPS = (characters.unify, marks.compose, spacing.close, repeats.squeeze, confusables.fold, leet.fold, case.calm)
_MAX_ROUNDS = 8  # property tests have found none that needs more than four; the bound keeps the time linear


def canonicalise(text: str) -> Traced:
    """The canonical form of a text, with the raw code point that each character came from.

    Idempotent, and linear in time. Whatever it makes of a text is only ever read beside the raw one.
    """
    traced = Traced.of(text)
    for _ in range(_MAX_ROUNDS):
        before = traced.text
        for step in _STEPS:
            traced = step(traced)
        if traced.text == before:
            break
    return traced


def canonical(text: str) -> str:
    """The canonical form alone."""
    return canonicalise(text).text
