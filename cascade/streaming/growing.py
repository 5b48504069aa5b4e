"""A text that grows by deltas and is read in chunks: each chunk is what is new, and the last words before it."""

from __future__ import annotations

from dataclasses import dataclass

from cascade.streaming.cuts import cut_before

CHARACTERS_PER_TOKEN = 4  # of ASCII text; any other character is taken for a token of its own
OVERLAP = 8  # code points before what is new that a chunk reads again, and back to the start of a word


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text: it begins at the offset ``start``, and its first ``again`` code points were read before."""

    start: int
    text: str
    again: int


class GrowingText:
    """The text so far. Offsets are code points of the whole text; memory and time are linear in its length.

    Attributes:
        length: code points received.
        size: UTF-8 bytes received.
        seen: code points that were in a chunk.
    """

    def __init__(self) -> None:
        self.length = self.size = self.seen = 0
        self._before: list[str] = []
        self._recent = ""
        self._base = 0  # where the recent text begins
        self._unread = 0.0

    @property
    def unread(self) -> float:
        """Tokens that are new since the last chunk, roughly."""
        return self._unread

    def add(self, delta: str) -> None:
        """Puts a delta at the end."""
        self._recent += delta
        self.length += len(delta)
        self.size += len(delta.encode())
        self._unread += _tokens(delta)

    def chunk(self) -> Chunk:
        """What is new with the words before it. From now on it counts as seen."""
        start = self._again()
        chunk = Chunk(start, self._recent[start - self._base :], self.seen - start)
        self.read_upto(self.length)
        return chunk

    def read_upto(self, end: int) -> None:
        """From now on the text up to this offset, which was not seen yet, counts as seen."""
        self._forget(self._again())
        self.seen = end
        self._unread = _tokens(self._recent[end - self._base :])

    def whole(self) -> str:
        """The whole text."""
        return "".join([*self._before, self._recent])

    def held_back(self, count: int) -> int:
        """The offset between words about ``count`` code points before the end of what was seen, if it is known."""
        return self._base + cut_before(self._recent, self.seen - self._base - count)

    def _again(self) -> int:
        """Where the words begin that are read once more with what is new."""
        return self._base + cut_before(self._recent, self.seen - self._base - OVERLAP)

    def _forget(self, start: int) -> None:
        """Moves what lies before ``start`` out of the way."""
        keep = start - self._base
        if keep > 0:
            self._before.append(self._recent[:keep])
            self._recent, self._base = self._recent[keep:], start


def _tokens(text: str) -> float:
    """How many tokens a text has, roughly."""
    beyond_ascii = 0 if text.isascii() else sum(character > "\x7f" for character in text)
    return beyond_ascii + (len(text) - beyond_ascii) / CHARACTERS_PER_TOKEN
