"""Words that are written as nobody writes them: "tHE", "p1an0", or with invisible characters between the letters.

Where only some words are disguised the canonical view may leave the rest, and a score may be low for it; that somebody
disguises words at all is a sign by itself.
"""

from __future__ import annotations

import re

_ODD = re.compile(
    r"[A-Za-z][\u0300-\u036f]*[\u200b-\u200d\u2060]+[\u0300-\u036f]*[A-Za-z]"  # something invisible within a word
    r"|[\u0300-\u036f]{3}"  # marks piled up
    r"|[a-z][A-Z]+[a-z]+[A-Z]|[A-Z]{2,}[a-z]+[A-Z]"  # capitals and small letters in turn: COmMUNisT
    r"|\b[a-z][A-Z]{2,}[a-z]*\b|\b[A-Z]{2,}(?!s\b)[a-z]{1,2}\b|[a-z][A-Z]\b"  # tHE, HErs (but not URLs), tO
    r"|[A-Za-z][013457]+[A-Za-z]|\b[013457][a-z]{2,}[013457]|[A-Za-z]@[a-z]{2}|[a-z]\$"  # p1an0, 4cc0un7, p@ss, as$
)
# Something that every odd word has. Most texts have it nowhere, and are done with at once.
_MAYBE = re.compile(r"[a-z][A-Z]|[A-Z]{2}|[013457@$\u0300-\u036f\u200b-\u200d\u2060]")
_FEWEST = 2  # such words, and
_SHARE = 0.1  # of all words: code has names like that, but more words beside them
_LOOKED_AT = 4000  # code points of a text


def is_odd(text: str) -> bool:
    """Whether so many words of a text are odd that it is no accident."""
    if not _MAYBE.search(text, 0, _LOOKED_AT):
        return False
    words = text[:_LOOKED_AT].split()
    odd = sum(_ODD.search(word) is not None for word in words)
    return odd >= _FEWEST and odd >= _SHARE * len(words)
