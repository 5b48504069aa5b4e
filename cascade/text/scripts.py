"""Which script a letter belongs to, and how much of a text is written in scripts that a model does not read."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import lru_cache

# A letter's Unicode name begins with its script ("CYRILLIC SMALL LETTER A"), so that no table is needed. These do not.
_ALIASES = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "KATAKANA-HIRAGANA": "Katakana",
    "MODIFIER": "",  # shared between scripts, like the apostrophe-like letters
}


@lru_cache(maxsize=8192)
def script(character: str) -> str:
    """The script of a letter, such as "Latin" or "Han"; empty for what is no letter, or belongs to no one script.

    A script of several words goes by the first: "Canadian" for Canadian Aboriginal syllabics.
    """
    if not character.isalpha():
        return ""
    # Fullwidth, mathematical and other styled letters are letters of the script that they style.
    plain = unicodedata.normalize("NFKC", character)[0]
    word = unicodedata.name(plain, "").partition(" ")[0] if plain.isalpha() else ""
    return _ALIASES.get(word, word.title())


def unread_share(text: str, scripts: Collection[str] = ("Latin",)) -> float:
    """The share, 0 to 1, of the text's letters that are in none of the given scripts; 0 when it has no letters."""
    if "Latin" in scripts and text.isascii():
        return 0.0
    letters = unread = 0
    for character, count in Counter(text).items():
        written_in = script(character)
        if written_in:
            letters += count
            unread += 0 if written_in in scripts else count
    return unread / letters if letters else 0.0
