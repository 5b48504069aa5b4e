"""Triggers: signs that stage 1's score is not to be trusted on a text, however low it is."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Sequence

from cascade.text import case
from cascade.text.english import cannot_be_english
from cascade.text.odd import is_odd
from cascade.text.scripts import unread_share
from cascade.text.views import DECODED, ROTATED

UNREAD_SCRIPT = "unread_script"
UNREAD_LANGUAGE = "unread_language"
VIEWS_DISAGREE = "views_disagree"
DECODED_PAYLOAD = "decoded_payload"
CASE_NOISE = "case_noise"
ODD_WORDS = "odd_words"
MIXED_SCRIPTS = "mixed_scripts"
REPETITIVE = "repetitive"
VERY_SHORT = "very_short"
NO_JUDGE = "no_judge"  # stage 1 names hazards of unsafe texts and cannot tell them from safe ones
EVERY_SCRIPT = "*"
UNREAD = frozenset({UNREAD_SCRIPT, UNREAD_LANGUAGE})  # stage 1 may not know what the text says

_MAX_UNREAD_SHARE = 0.3
_MAX_DISAGREEMENT = 0.3
_MAX_SEAMS = 2  # between letters of two scripts within words: one look-alike, or one borrowed word with a native ending
_SHORT = 200  # code points: shorter texts may repeat themselves
_VERY_SHORT = (2, 12)  # words and letters, at most
_BLOCK = 256  # words that are looked at together
_FEW_WORDS = 40  # below it the text has words too long for words
_VARIETY = 1 / 16  # different words of a block, at least
_COMPRESSED = 0.04  # of its length, at least
_SAMPLE = 4096  # code points that are compressed

_ALPHABETS = "[\u0370-\u03ff\u0400-\u052f\u0531-\u0587\u13a0-\u13f5]"  # that share shapes with the Latin one
_SEAM = re.compile(f"(?<=[A-Za-z]){_ALPHABETS}|(?<={_ALPHABETS})[A-Za-z]")


def unread_script(text: str, read: Collection[str] = ("Latin",)) -> bool:
    """Whether too many of a text's letters are in scripts that stage 1 does not read; "*" reads all."""
    return EVERY_SCRIPT not in read and unread_share(text, read) > _MAX_UNREAD_SHARE


def unread_language(text: str, read: Collection[str] = ("Latin",)) -> bool:
    """Whether a text in Latin letters is not English; a stage 1 that reads no other letters reads no other language."""
    return set(read) == {"Latin"} and not unread_script(text, read) and cannot_be_english(text)


def views_disagree(scores: Sequence[float]) -> bool:
    """Whether the views of one text got calibrated probabilities that lie too far apart."""
    return bool(scores) and max(scores) - min(scores) > _MAX_DISAGREEMENT


def mixed_scripts(text: str) -> bool:
    """Whether letters of other alphabets stand among Latin ones within words."""
    return not text.isascii() and len(_SEAM.findall(text)) > _MAX_SEAMS


def repetitive(text: str) -> bool:
    """Whether a long stretch of the text says the same again and again."""
    if len(text) < _SHORT:
        return False
    words = text.split()
    if len(words) < _FEW_WORDS:
        sample = text[:_SAMPLE].encode("utf-8", "surrogatepass")
        return len(zlib.compress(sample, 1)) < _COMPRESSED * len(sample)
    starts = range(0, max(len(words) - _BLOCK, 0) + 1, _BLOCK)
    blocks = (words[start : start + _BLOCK] for start in starts)
    return any(len(set(block)) < _VARIETY * len(block) for block in blocks)


def very_short(text: str) -> bool:
    """Whether a text is a word or two: too little for a model that was trained on sentences."""
    words, letters = _VERY_SHORT
    return len(text) <= _SHORT and len(text.split()) <= words and 0 < sum(map(str.isalpha, text)) <= letters


def in_texts(texts: Sequence[str], read: Collection[str] = ("Latin",)) -> tuple[str, ...]:
    """The names of the triggers that texts fire by themselves; ``read`` are the scripts that stage 1 reads."""
    signs = {
        UNREAD_SCRIPT: any(unread_script(text, read) for text in texts),
        UNREAD_LANGUAGE: any(unread_language(text, read) for text in texts),
        CASE_NOISE: any(map(case.is_noisy, texts)),
        ODD_WORDS: any(map(is_odd, texts)),
        MIXED_SCRIPTS: any(map(mixed_scripts, texts)),
        REPETITIVE: any(map(repetitive, texts)),
        VERY_SHORT: bool(texts) and all(map(very_short, texts)),  # "yes" among other turns says what they make it say
    }
    return tuple(name for name, fires in signs.items() if fires)


def in_views(scores: Sequence[Sequence[float]], kinds: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the triggers that the views of texts fire.

    Args:
        scores: for each part the calibrated probability of each of its views.
        kinds: the kinds of views that any part has.
    """
    signs = {
        VIEWS_DISAGREE: any(map(views_disagree, scores)),
        DECODED_PAYLOAD: DECODED in kinds or ROTATED in kinds,
    }
    return tuple(name for name, fires in signs.items() if fires)
