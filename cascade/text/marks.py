"""Combining marks: letters are composed with theirs, and marks that only disfigure a letter are cut."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from cascade.text.scripts import script
from cascade.text.traced import Edit, Traced

_MAX_READ = 16  # marks a letter that are looked at: normalising n marks at once takes time in the order of n squared
_MAX_KEPT = 5  # Hebrew with vowels, accents and a meteg, or a Tibetan stack, needs no more
_STACK = 3  # marks on a letter that compose with it in no script, or do so without a rest
# Scripts that write a letter with its accents as one code point, so that two marks left over are a disfigurement.
_COMPOSED = frozenset({"", "Latin", "Greek", "Cyrillic", "Armenian", "Cherokee"})
# Strokes through, under and over a letter, and frames around it.
_DECORATION = re.compile("[\u0305\u0332-\u0338\u033f\u0488\u0489\u20d0-\u20ff]")
_ACCENT = re.compile("[\u0300-\u036f]")


def compose(traced: Traced) -> Traced:
    """Composes each letter with its marks and cuts stacks and decorations."""
    if traced.text.isascii():
        return traced
    attached = {character for character in set(traced.text) if _attaches(character)}
    return traced.edited(_edits(traced.text, attached)) if attached else traced


def _edits(text: str, attached: set[str]) -> Iterator[Edit]:
    end = 0
    for first in [i for i, character in enumerate(text) if character in attached]:
        if first < end:
            continue
        end = next((i for i in range(first, len(text)) if text[i] not in attached), len(text))
        start = max(first - 1, 0)
        new = _tidy(text[start:end])
        if new != text[start:end]:
            yield Edit(start, end, new)


@lru_cache(maxsize=8192)
def _attaches(character: str) -> bool:
    """Whether a character may compose with the one before it: marks, and the vowels and finals of Hangul syllables."""
    return unicodedata.category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"


def _tidy(cluster: str) -> str:
    head = "" if _attaches(cluster[0]) else cluster[0]
    marks = [mark for mark in cluster[len(head) : len(head) + _MAX_READ] if not _DECORATION.match(mark)]
    if script(head) not in _COMPOSED:
        return unicodedata.normalize("NFC", head + "".join(marks))[: len(head) + _MAX_KEPT]
    form = unicodedata.normalize("NFC", head + "".join(mark for mark in marks if _ACCENT.match(mark)))
    left_over = len(form) - len(head)
    if not left_over or (left_over == 1 and len(cluster) - len(head) < _STACK):
        return form
    return unicodedata.normalize("NFD", head)[:1]
