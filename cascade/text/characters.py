"""One character at a time: invisible ones go, styled ones become plain.

This is Unicode's NFKC with a few exceptions where NFKC would change how an ordinary text is written, and with the
invisible controls and the styled letters that NFKC leaves alone.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from cascade.text.traced import Edit, Traced

_MAX_EXPANSION = 6  # U+FDFA alone becomes 18 characters: a text of it must not cost 18 times its length

# What shows nothing and says nothing: controls, soft hyphen, grapheme joiner, bidi marks, Hangul fillers, zero-width
# spaces, variation selectors, tags, shorthand and musical format controls; and the Arabic stretching stroke.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

# Joiners are spelling between letters of Arabic, Syriac, N'Ko, the Indic scripts, Burmese, Khmer and Mongolian.
_JOINED = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af"
_STRAY_JOINER = re.compile(f"(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])")

# Thai and Lao AM are one letter to their readers, Hangul compatibility letters stand alone ("kkk", laughter), and the
# signs for number, service mark and trade mark are no letters to anyone.
_KEPT = re.compile("[\u2116\u2120\u2122\u0e33\u0eb3\u3131-\u3163\u3165-\u318e\uffa1-\uffdc]")

_LATIN_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STYLED = {
    # Small capitals, and two IPA letters that are no language's own.
    **dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢɑɡ", "abcdefghijklmnoprstuvwyzag", strict=True)),
    # White letters on black circles and squares; NFKC knows only the black ones on white.
    **{chr(0x1F150 + i): letter for i, letter in enumerate(_LATIN_CAPITALS)},
    **{chr(0x1F170 + i): letter for i, letter in enumerate(_LATIN_CAPITALS)},
    "\u2800": " ",  # the empty Braille pattern
}

_FIRST_INDICATOR = ord("🇦")
_INDICATORS = re.compile("[🇦-🇿]+")


@lru_cache(maxsize=8192)
def plain(character: str) -> str:
    """What a character stands for: none, one or several characters, none of which would change again."""
    if _INVISIBLE.match(character):
        return ""
    if _KEPT.match(character):
        return character
    form = unicodedata.normalize("NFKC", character)
    # A spacing accent would become a space and a combining mark, which would tear "don´t" in two.
    if len(form) > _MAX_EXPANSION or (form[0] == " " and len(form) > 1):
        return character
    return "".join(_STYLED.get(c, c) for c in _INVISIBLE.sub("", form))


def unify(traced: Traced) -> Traced:
    """Removes what is invisible and makes styled characters plain."""
    if traced.text.isascii() and not _INVISIBLE.search(traced.text):
        return traced
    traced = traced.edited(_letters_for_flags(traced.text))
    table = {character: form for character in set(traced.text) if (form := plain(character)) != character}
    traced = traced.mapped(table)
    return traced.edited(Edit(found.start(), found.end(), "") for found in _STRAY_JOINER.finditer(traced.text))


def _letters_for_flags(text: str) -> list[Edit]:
    """Regional indicators make flags in pairs; an odd run of them spells letters."""
    return [
        Edit(found.start(), found.end(), "".join(_LATIN_CAPITALS[ord(c) - _FIRST_INDICATOR] for c in found[0]))
        for found in _INDICATORS.finditer(text)
        if len(found[0]) % 2
    ]
