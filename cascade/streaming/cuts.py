"""Where a growing text may be cut: between words where there are any, and not between a letter and its marks."""

from __future__ import annotations

import unicodedata

_REACH = 48  # code points that are looked back over for a word's start; text without spaces is cut between letters
_JOINER = "\u200d"


def cut_before(text: str, place: int) -> int:
    """The nearest word start at or before a place; where no word starts near it, the nearest letter's start."""
    if place <= 0 or place >= len(text):
        return max(0, min(place, len(text)))
    for start in range(place, max(place - _REACH, 0), -1):
        if text[start - 1].isspace() and not text[start].isspace():
            return start
    if place <= _REACH:
        return 0
    letter = place
    while letter > max(place - _REACH, 0) and _continues(text, letter):
        letter -= 1
    return letter


def between_words(text: str, place: int) -> bool:
    """Whether no word goes on across a place."""
    inside = 0 < place < len(text)
    return not inside or not ((text[place - 1].isalnum() and text[place].isalnum()) or _continues(text, place))


def _continues(text: str, place: int) -> bool:
    """Whether the character at a place belongs to the one before it."""
    if place >= len(text):
        return False
    character, before = text[place], text[place - 1]
    return unicodedata.category(character)[0] == "M" or _JOINER in (character, before)
