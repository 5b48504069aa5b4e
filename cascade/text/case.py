"""Letters whose case is noise: "hOw tO bAkE"."""

from __future__ import annotations

import re

from cascade.text.traced import Edit, Traced

_RISE = re.compile("[a-z][A-Z]")
_FEWEST = 4  # rises within words, from which on they may be noise
_SHARE = 0.12  # of the text's length; code in camel case has fewer
_WORD = re.compile(r"[A-Za-z]*[a-z][A-Z][A-Za-z]*")


def is_noisy(text: str) -> bool:
    """Whether capitals stand in the middle of words so often that it is no way to write, and no code either."""
    rises = len(_RISE.findall(text))
    return rises >= _FEWEST and rises > _SHARE * len(text)


def calm(traced: Traced) -> Traced:
    """Writes the words of a noisy text small that have a capital after a small letter."""
    if not is_noisy(traced.text):
        return traced
    return traced.edited(Edit(found.start(), found.end(), found[0].lower()) for found in _WORD.finditer(traced.text))
