"""Drawn-out letters and rows of signs: "kiiiiill", "!!!!!!"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cascade.text.traced import Edit, Traced

_REPEATED = re.compile(r"([^\d\s])\1{3,}")


def squeeze(traced: Traced) -> Traced:
    """Shortens four or more of a kind: cased letters to two, signs to three.

    Digits are left alone, for they are numbers, and so are letters without case, for which repetition is spelling
    (laughter in Chinese or Korean) as often as emphasis.
    """
    return traced.edited(_edits(traced.text))


def _edits(text: str) -> Iterator[Edit]:
    for run in _REPEATED.finditer(text):
        kept = _kept(run[1])
        if kept is not None:
            yield Edit(run.start() + kept, run.end(), "")


def _kept(character: str) -> int | None:
    if not character.isalpha():
        return 3
    return 2 if character.isupper() or character.islower() else None
