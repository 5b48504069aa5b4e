"""Letters of other scripts that look like Latin ones, in words that pretend to be Latin.

The table is made from Unicode's ``confusables.txt`` (UTS 39, version 13.0.0): every entry whose source is one letter,
unchanged by NFKC, of one of the scripts below, and whose target is one ASCII letter; where the target is "l" and the
source is a capital, "I" stands for it. Scripts that are written without spaces, or from right to left, are left out:
there a Latin letter in the neighbourhood proves nothing. Copyright 1991-2020 Unicode, Inc., used under the Unicode
License (https://www.unicode.org/license.txt).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cascade.text.scripts import script
from cascade.text.traced import Edit, Traced

_SAME_LOOK = {
    "АВСЕԌНІӀЈКМОРЅТѴԜХУҮаЬсԁеҽһіӏꙇјорԛгѕѵѡԝхуү": "ABCEGHIIJKMOPSTVWXYYabcdeehiiijopqrsvwwxyy",  # Cyrillic
    "ΑΒΕϜΗΙͿΚΜϺΝΟΡΤΧΥΖαιϳοσρᴦυνγ": "ABEFHIJKMMNOPTXYZaijoopruvy",  # Greek
    "ՕՏՍքցհոռօգզսա": "OSUfghnnoqquw",  # Armenian
    "ⲤⲎⲒⲔⳐⲘⲚⲞⲢⲦⲬⲨⲥⲟⲣⲅ": "CHIKLMNOPTXYcopr",  # Coptic
    "ᎪᏴᏟᎠᎬᏀᏳᎻᎫᏦᏞᎷᏢᎡᏒᏕᏚᎢᏙᎳᏔᎩᎽᏃᏏꮯᏧᏂᎥꭵꮁꮪꮩꮃꮓ": "ABCDEGGHJKLMPRRSSTVWWYYZbcdhiirsvwz",  # Cherokee
    "ᗅᗷᗞᗪᖴᕼᒍᒪᗰᑭᖇᑌᐯᑲᖯᑯᕁᕽ": "ABDDFHJLMPRUVbbdxx",  # Canadian Aboriginal
    "ꓮꓐꓚꓓꓰꓝꓖꓧꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜꓒꓲ": "ABCDEFGHJKLMNOPRSTUVWXYZdl",  # Lisu
    "ⴹⵔⵕⴸⵝⵏ": "EOQVXl",  # Tifinagh
    "𐐕𐐛𐐄𐐠𐐽𐐬𐑈": "CLOScos",  # Deseret
    "𐓂𐒴𐓎𐓪𐓶": "ORUou",  # Osage
    "𐊠𐊡𐊢𐊥𐋏𐊰𐊫𐊱𐊴𐊲": "ABCFHMOTXY",  # Carian
    "𐊂𐊆𐊇𐊒𐊕𐊖𐊗𐊐𐊊": "BEFOPSTXl",  # Lycian
    "𐔜𐔥𐔘𐔦𐔓𐔖𐔝𐔧": "CFKLNOVX",  # Elbasan
    "𐌁𐌂𐌑𐌕𐌗𐌉": "BCMTXl",  # Old Italic
    "𑢦𑢮𑢢𑣂𑢣𑢲𑢵𑢼𑢸𑢠𑢤𑢩𑣃𑣈𑣗𑣁𑣘𑣀𑣜𑣄": "EEFFLLOTUVYZioosuvyz",  # Warang Citi
}
# Small letters that look like Latin capitals, or nearly like Latin letters: not in Unicode's table, much in use.
_NEAR_LOOK = {"вкмнтп": "bkmhtn", "βεηκτω": "benktw"}

SAME_LOOK = {ord(c): latin for alike, latins in _SAME_LOOK.items() for c, latin in zip(alike, latins, strict=True)}
LOOK = SAME_LOOK | {ord(c): latin for near, latins in _NEAR_LOOK.items() for c, latin in zip(near, latins, strict=True)}

_WORD = re.compile(r"[^\W_]+")
_LATIN = re.compile("[A-Za-z]")


def fold(traced: Traced) -> Traced:
    """Writes words in Latin letters that only look as if they were.

    A word that mixes Latin letters with look-alikes is folded when all its other letters are look-alikes, and it is
    Latin for the most part or they look exactly alike. A word of look-alikes alone is folded when it stands in a text
    with Latin letters whose every letter of the word's script looks exactly like a Latin one, which no honest text of
    some length does.
    """
    if traced.text.isascii() or not _LATIN.search(traced.text):
        return traced
    foreign = {c for c in set(traced.text) if script(c) not in ("", "Latin")}
    if not any(ord(c) in LOOK for c in foreign):
        return traced
    honest = {script(c) for c in foreign if ord(c) not in SAME_LOOK}
    return traced.edited(_edits(traced.text, honest))


def _edits(text: str, honest: set[str]) -> Iterator[Edit]:
    for found in _WORD.finditer(text):
        word = found[0]
        if not word.isascii() and _pretends(word, honest):
            yield Edit(found.start(), found.end(), word.translate(LOOK))


def _pretends(word: str, honest: set[str]) -> bool:
    """Whether a word is a Latin one in disguise; ``honest`` are the scripts that the text really uses."""
    foreign = [c for c in word if script(c) not in ("", "Latin")]
    if not foreign or any(ord(c) not in LOOK for c in foreign):
        return False
    latin = sum(script(c) == "Latin" for c in word)
    if latin:
        return latin >= len(foreign) or all(ord(c) in SAME_LOOK for c in foreign)
    return len(foreign) > 1 and not any(script(c) in honest for c in foreign)
