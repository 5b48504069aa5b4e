"""Digits and signs that stand for letters: "h0w", "k1ll", "p@ssw0rd", "a$$".

A digit counts as a letter only where its word shows that it must: letters on both sides of it, and nothing else in the
word that no letter looks like. So "1984", "3D", "4th", "covid19", "mp3", "b2b", "k8s", "utf16le" and "sha256" stay. In
a text with one such word the doubtful ones are folded too, with a single stand-in at one end: "t0", "1s", "gun5". A
text steeped in such words ("m4k3 4 l04f 0f 6r41n") is folded throughout, single digits too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice

from cascade.text.traced import Edit, Traced

_LETTERS = {
    "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "@": "a", "$": "s", "€": "e", "!": "i",
}  # fmt: skip
_STAND_IN = r"(?:0{1,3}|1{1,3}|3{1,3}|4{1,3}|34|5{1,3}|6{1,3}|7{1,3}|@|\${1,3}|€|!)"
_SIGN = r"(?:[@$€]|(?<=\b[b-df-hj-np-tv-z])!|(?<=\b[b-df-hj-np-tv-z]{2})!)"  # "b!tch" and "sh!t", not "oh!my"

# A word with a digit or a sign in it, from one sign before it to the dollars that end it.
_WORD = re.compile(
    rf"(?<![^\W_])[@$€]?(?=[^\W\d_]*+[\d@$€!])[^\W_](?:{_SIGN}*+[^\W_])*+\$*",
    re.IGNORECASE,
)
_BETWEEN_LETTERS = re.compile(rf"[^\W\d_]{_STAND_IN}[^\W\d_]")
_RUN = re.compile(r"[\d@$€!]+")
_STAND_IN_RUN = re.compile(_STAND_IN)
_LEAD = re.compile(r"[0134567@$€]")
_TAIL = re.compile(r"[013467]|5{1,2}|\${1,2}")
_DOUBTFUL = re.compile(r"[0134567](?!(?:st|nd|rd|th)\b)[a-z]+|[A-Za-z]?[a-z]+[013457$]")
_ENDS_IN_DOLLARS = re.compile(r"[A-Za-z]+\$\$")
# Numbers with a base or an exponent, identifiers in camel case, and letters that digits do not look like.
_NO_LEET = re.compile("^0[xXbBoO]|^\\d+[eE]\\d|[a-z]\\d+[A-Z]|[^\x00-\u024f\u1e00-\u1eff€]")
# Letters with stand-ins among them and no other digit, or up to two stand-ins alone.
_MIXED = re.compile(
    r"(?<![\w@$])(?!\d+(?:st|nd|rd|th)\b)"
    r"(?:(?=[0134567@$]*[A-Za-z])(?=[A-Za-z]*[0134567@$])[A-Za-z0134567@$]+|[01457]{1,2})(?![\w@$])"
)
_INSIDE = re.compile(r"[a-z][0134567]{1,3}[a-z]", re.IGNORECASE)
_STEEPED_WORDS = 3
_STEEPED_SHARE = 0.4
_ADDRESS = re.compile(r"[.:]\w")


def fold(traced: Traced) -> Traced:
    """Writes digits and signs that stand for letters as those letters."""
    if not _RUN.search(traced.text):
        return traced
    return traced.edited(_steeped(traced.text) or _edits(traced.text))


def _steeped(text: str) -> list[Edit]:
    """The words with stand-ins of a text that has several with a row of them inside, and hardly any word without."""
    if sum(1 for _ in islice(_INSIDE.finditer(text), _STEEPED_WORDS)) < _STEEPED_WORDS:
        return []
    found = [word for word in _MIXED.finditer(text) if not _NO_LEET.search(word[0])]
    if len(found) < _STEEPED_SHARE * len(text.split()):
        return []
    return [Edit(word.start(), word.end(), _written_out(word[0])) for word in found]


def _edits(text: str) -> list[Edit]:
    sure: list[Edit] = []
    doubtful: list[Edit] = []
    for found in _WORD.finditer(text):
        word = found[0]
        if _BETWEEN_LETTERS.search(word):
            if not _is_name(text, found) and (new := _unmasked(word)) != word:
                sure.append(Edit(found.start(), found.end(), new))
        elif _ENDS_IN_DOLLARS.fullmatch(word):
            sure.append(Edit(found.start(), found.end(), _written_out(word)))
        elif _DOUBTFUL.fullmatch(word) and not _is_name(text, found):
            doubtful.append(Edit(found.start(), found.end(), _written_out(word)))
    return sorted(sure + doubtful) if sure else []


def _is_name(text: str, found: re.Match[str]) -> bool:
    """Whether a word is part of a mail address or of an identifier with underscores."""
    before, after = text[max(found.start() - 1, 0) : found.start()], text[found.end() : found.end() + 2]
    return "_" in before + after[:1] or ("@" in found[0] and bool(_ADDRESS.match(after)))


@lru_cache(maxsize=4096)
def _unmasked(word: str) -> str:
    """A word that has a stand-in between letters, with its stand-ins replaced, or as it was if it is no such word."""
    if _NO_LEET.search(word):
        return word
    first = next(i for i, c in enumerate(word) if c.isalpha())
    last = next(i for i in range(len(word) - 1, -1, -1) if word[i].isalpha())
    lead, core, tail = word[:first], word[first : last + 1], word[last + 1 :]
    runs = _RUN.findall(core)
    letters = len(core) - sum(map(len, runs))
    if letters < len(core) - letters or not all(map(_STAND_IN_RUN.fullmatch, runs)):
        return word
    too_little = len(lead + tail) > 1 or core.isupper() or not core.isalnum()  # "1x1y1", "W3C", "a@b"
    if letters == 2 and too_little:
        return word
    start = 0 if _LEAD.fullmatch(lead) else first
    end = len(word) if _TAIL.fullmatch(tail) else last + 1
    return word[:start] + _written_out(word[start:end]) + word[end:]


def _written_out(word: str) -> str:
    letters = "".join(_letter(word, i) for i in range(len(word)))
    return letters.upper() if word.isupper() else letters


def _letter(word: str, i: int) -> str:
    """The letter that stands at a place of a word; a 1 beside another, or beside an "i", is an "l"."""
    if word[i] == "1" and ({"1", "i", "I"} & set(word[max(i - 1, 0) : i] + word[i + 1 : i + 2])):
        return "l"
    return _LETTERS.get(word[i], word[i])
