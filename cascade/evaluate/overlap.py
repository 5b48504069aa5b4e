"""Finds texts that are, or nearly are, those of an evaluation set: fingerprints and an index over word n-grams.

A text hits an evaluation row if their fingerprints are equal, if it shares half of its word 8-grams with it, or, where
both are short, if their word 3-grams have a Jaccard similarity of at least 0.7: short texts have few n-grams, so that
the figure itself costs less than a sketch.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SIMILARITY, GRAM = 0.7, 3
LONG_GRAM, SHARED = 8, 0.5
SHORT = 3 * LONG_GRAM  # words up to which a text is short: few 8-grams, one changed word breaks most of them
KINDS = ("equal", "8-grams", "similar")
_WORD = re.compile(r"\w+")


def fingerprint(text: str) -> str:
    """SHA-256 of the words of a text, whatever their case, form or spacing."""
    return hashlib.sha256(" ".join(_words(text)).encode()).hexdigest()


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def units(text: str) -> list[str]:
    """The words of a text; scripts without spaces come out as one long "word" each: those are cut into characters."""
    return [unit for word in _words(text) for unit in (word if not word.isascii() and len(word) > 8 else [word])]


def grams(text: str, size: int = GRAM) -> set[bytes]:
    """The word n-grams of a text; of a text shorter than that, the whole of it."""
    found = units(text)
    return {" ".join(found[i : i + size]).encode() for i in range(max(1, len(found) - size + 1))}


@dataclass(frozen=True, slots=True)
class Hit:
    """An evaluation row that a text hits, and by which of the three tests."""

    evaluation_set: str
    evaluation_id: str
    kind: str


class Evaluation:
    """An index over the texts of evaluation sets."""

    def __init__(self, texts: Iterable[tuple[str, str, str]]) -> None:
        """Takes triples of set, row id and text."""
        self._rows: list[tuple[str, str]] = []
        self._prints: dict[str, list[int]] = defaultdict(list)
        self._long: dict[bytes, list[int]] = defaultdict(list)
        self._short: dict[int, set[bytes]] = {}
        self._having: dict[bytes, list[int]] = defaultdict(list)  # 3-gram -> short rows
        for name, row_id, text in texts:
            length = len(units(text))
            if not length:
                continue  # without a word there is nothing to compare
            number = len(self._rows)
            self._rows.append((name, row_id))
            self._prints[fingerprint(text)].append(number)
            if length >= LONG_GRAM:
                for gram in grams(text, LONG_GRAM):
                    self._long[gram].append(number)
            if length <= SHORT:
                self._short[number] = grams(text)
                for gram in self._short[number]:
                    self._having[gram].append(number)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, text: str) -> Hit | None:
        """The evaluation row that a text hits first, None if there is none."""
        return next(self.find_all(text), None)

    def find_all(self, text: str) -> Iterator[Hit]:
        """Every evaluation row that a text hits, each once: by the first of the tests that tells, the nearest first."""
        seen = set[int]()
        for kind, number in self._find(text):
            if number not in seen:
                seen.add(number)
                yield Hit(*self._rows[number], kind)

    def _find(self, text: str) -> Iterator[tuple[str, int]]:
        length = len(units(text))
        if not length:
            return
        for number in self._prints.get(fingerprint(text), ()):
            yield KINDS[0], number
        if length >= LONG_GRAM:
            for number in self._sharing(text):
                yield KINDS[1], number
        if length <= SHORT:
            for _, number in sorted(self._alike(text), key=lambda found: -found[0]):
                yield KINDS[2], number

    def _sharing(self, text: str) -> list[int]:
        """Rows that have half of the text's 8-grams, those with most of them first."""
        own = grams(text, LONG_GRAM)
        shared = Counter(number for gram in own for number in self._long.get(gram, ()))
        return [number for number, count in shared.most_common() if count >= SHARED * len(own)]

    def _alike(self, text: str) -> Iterator[tuple[float, int]]:
        """Short rows that are similar enough, with how similar they are."""
        own = grams(text)
        # A row that is similar enough lacks at most 30 % of the n-grams, so it has one of the 30 % + 1 rarest.
        rarest = sorted(own, key=lambda gram: len(self._having.get(gram, ())))
        rarest = rarest[: len(own) - math.ceil(SIMILARITY * len(own) - 1e-9) + 1]
        for number in sorted({number for gram in rarest for number in self._having.get(gram, ())}):
            other = self._short[number]
            likeness = len(own & other) / len(own | other)
            if likeness >= SIMILARITY:
                yield likeness, number
