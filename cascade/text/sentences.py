"""Parts of a text that can be left out one at a time: its sentences, or, of few sentences, groups of words.

Offsets are code points. The parts lie in order, do not overlap, and hold all of the text but white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SENTENCE = re.compile(
    r"\S[^\n]*?(?:[.!?…؟।]+[\"'”’»)\]]*(?=\s|$)|[。！？．]+[”’」』）]*|(?=\n)|$)",
    re.MULTILINE,
)
_WORD = re.compile(r"\S+")
FEW = 3  # sentences, below which words are taken together
GROUPS = 8  # of words, at most


def parts(text: str) -> list[tuple[int, int]]:
    """First and last code point of each part; a text of one word, or of none, is one part or none."""
    found = [match.span() for match in _SENTENCE.finditer(text)]
    return found if len(found) >= FEW else list(_groups(text))


def _groups(text: str) -> Iterator[tuple[int, int]]:
    """Words next to each other, as many in each group; signs where a language writes no spaces."""
    words = [match.span() for match in _WORD.finditer(text)]
    if len(words) == 1:
        start, end = words[0]
        words = [(at, at + 1) for at in range(start, end)] if not text[start:end].isascii() else words
    size = -(-len(words) // GROUPS) if words else 1
    for first in range(0, len(words), size):
        group = words[first : first + size]
        yield group[0][0], group[-1][1]
