"""A text that is being rewritten and still knows which raw code point each of its characters came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Edit(NamedTuple):
    """Replace the characters from ``start`` up to ``end`` by ``new``."""

    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class Traced:
    """A text with the raw code point that each character came from, and the raw length last.

    ``origins`` never falls and is one longer than ``text``.
    """

    text: str
    origins: Sequence[int]

    @classmethod
    def of(cls, raw: str) -> Traced:
        """A text that nothing has been done to."""
        return cls(raw, range(len(raw) + 1))

    def edited(self, edits: Iterable[Edit]) -> Traced:
        """Applies edits, which are sorted and do not overlap. An edit that keeps the length keeps the origins."""
        edits = list(edits)
        if not edits:
            return self
        pieces: list[str] = []
        done = 0
        for start, end, new in edits:
            pieces += (self.text[done:start], new)
            done = end
        pieces.append(self.text[done:])
        return Traced("".join(pieces), self._origins_after(edits))

    def _origins_after(self, edits: list[Edit]) -> Sequence[int]:
        old, new = self.origins, list[int]()
        done = 0
        for edit in edits:
            length = len(edit.new)
            if length != edit.end - edit.start:
                new += old[done : edit.start]
                new += [old[edit.start]] * length
                done = edit.end
        if not done:
            return old
        new += old[done:]
        return new

    def mapped(self, table: Mapping[str, str]) -> Traced:
        """Replaces each character that the table lists by the table's text for it, which may be empty."""
        if not table:
            return self
        return self.edited(Edit(i, i + 1, table[c]) for i, c in enumerate(self.text) if c in table)
