"""What is written in code and reads as text once it is decoded: base64, hex, percent signs, rot13.

Only looks are judged here, on purpose: a run of characters is a payload when its bytes are UTF-8 and for the most part
letters and spaces, which the bytes behind an identifier, a hash or a long word are not.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote_to_bytes

from cascade.text.traced import Edit, Traced

MAX_DEPTH = 2  # a payload in a payload, and no deeper
_SHORTEST = 5  # characters that a decoded payload has at least
_READABLE = 0.75  # the share of letters and spaces that makes text of it
_LONG = 16  # characters in a row that ordinary words seldom have
_SPARSE = 5  # characters a word, its gap included: fewer are rare in ordinary text
_PAIRS = 8  # words of two characters, a comma not counted, from which on they may be bytes

_BASE64 = re.compile(r"(?<![\w+/=-])(?:[A-Za-z0-9+/_-]{16,}={0,2}|[A-Za-z0-9+/_-]{6,}={1,2})(?![\w+/=-])")
_BYTE = r"(?:0x|\\x)?[0-9A-Fa-f]{2}"
_HEX = re.compile(rf"(?<![0-9A-Za-z])(?:{_BYTE}(?:[\s,:-]{{1,2}}(?={_BYTE}))?){{8,}}(?![0-9A-Za-z])")
_PERCENT = re.compile(r"[^\s%]*(?:%[0-9A-Fa-f]{2}[^\s%]*){3,}")
_WHITE_SPACE = re.compile(r"\s+")
_HEX_DIGITS = re.compile(r"(?:0x|\\x|[\s,:-])+")

# Common English words in rot13; none of them is a word itself.
_COMMON_WORDS = (
    "the and how you what make can for with that this your from not tell give write about me my to of is in it someone "
    "people want need would where when who why do without steps explain"
)
_ROTATED_WORDS = frozenset(codecs.encode(_COMMON_WORDS, "rot13").split())
_ROTATED_ENOUGH = 2  # different words of these
_ROT13 = str.maketrans({chr(a + i): chr(a + (i + 13) % 26) for a in (65, 97) for i in range(26)})


def decode(text: str) -> Traced | None:
    """The text with its payloads decoded, None where it has none that read as text."""
    edits = _edits(text, MAX_DEPTH)
    return Traced.of(text).edited(edits) if edits else None


def rotate(text: str) -> str | None:
    """The text in rot13, None where that is not likely to say more; as long as the text."""
    words = text.lower().split()
    if _ROTATED_WORDS.isdisjoint(words) or len(_ROTATED_WORDS.intersection(words)) < _ROTATED_ENOUGH:
        return None
    return text.translate(_ROT13)


def _edits(text: str, depth: int) -> list[Edit]:
    """Payloads in the order in which they stand; where two overlap, the first one that was found."""
    found: list[Edit] = []
    taken: set[int] = set()
    for pattern, read in _codes(text):
        for run in pattern.finditer(text):
            if taken.isdisjoint(range(*run.span())) and (new := _as_text(read(run[0]), depth)):
                found.append(Edit(run.start(), run.end(), new))
                taken.update(range(*run.span()))
    return sorted(found)


def _codes(text: str) -> Iterator[tuple[re.Pattern[str], Callable[[str], bytes]]]:
    """The codes that a text may hold, by what costs next to nothing to see."""
    words = text.split()
    long = len(max(words, key=len, default="")) >= _LONG
    pairs = len(text) < _SPARSE * len(words) and sum(len(word) in (2, 3) for word in words) >= _PAIRS
    if long or pairs or "0x" in text:
        yield _HEX, _from_hex
    if "%" in text:
        yield _PERCENT, _from_percent
    if long or "=" in text:
        yield _BASE64, _from_base64


def _from_hex(run: str) -> bytes:
    digits = _HEX_DIGITS.sub("", run)
    return bytes.fromhex(digits) if len(digits) % 2 == 0 else b""


def _from_percent(run: str) -> bytes:
    return b"" if "://" in run else unquote_to_bytes(run)


def _from_base64(run: str) -> bytes:
    digits = run.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
    except binascii.Error:
        return b""


def _as_text(found: bytes, depth: int) -> str:
    """What the bytes say if they say something, or hold a payload that does; else nothing."""
    try:
        text = found.decode()
    except UnicodeDecodeError:
        return ""
    inner = _edits(text, depth - 1) if depth > 1 else []
    if inner:
        return Traced.of(text).edited(inner).text
    if len(text) < _SHORTEST or not all(map(str.isprintable, _WHITE_SPACE.sub("", text))):
        return ""
    readable = sum(character.isalpha() or character.isspace() for character in text)
    return text if readable >= _READABLE * len(text) else ""
