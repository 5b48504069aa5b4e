"""Cuts a sequence of tokens into overlapping windows that cover all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from stages.errors import ModelError
from stages.stage import Encoding, Window


@dataclass(frozen=True, slots=True)
class Cutter:
    """Windows of ``window_tokens``, of which ``first`` and ``last`` are special; neighbours share ``overlap`` tokens.

    Raises:
        ModelError: the window does not hold twice the overlap.
    """

    window_tokens: int
    overlap: int
    first: tuple[int, ...]
    last: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.overlap < 0 or self._size - self.overlap < self.overlap:
            raise ModelError(f"a window of {self.window_tokens} tokens is too small for an overlap of {self.overlap}")

    @property
    def _size(self) -> int:
        return self.window_tokens - len(self.first) - len(self.last)

    def cut(self, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], unknown: int | None) -> Encoding:
        """Tokens of a text, with their code-point ranges, -> its encoding; ``unknown`` is the id that is counted."""
        size, total = self._size, len(ids)
        missing = ids.count(unknown) if unknown is not None else 0
        if total <= size:
            return Encoding((Window((*self.first, *ids, *self.last), 0, len(text)),), total, missing)
        # The last window ends with the text, so that it is as long as the others and sees as much context.
        starts = [*range(0, total - size, size - self.overlap), total - size]
        windows = [
            Window(
                (*self.first, *ids[start : start + size], *self.last),
                offsets[start][0] if start else 0,
                offsets[start + size - 1][1] if start + size < total else len(text),
            )
            for start in starts
        ]
        return Encoding(tuple(windows), total, missing)


def cut_of(data: bytes, window_tokens: int, overlap: int) -> str:
    """Names all that decides how a text is cut: the tokenizer's file by its SHA-256, and the sizes."""
    return f"{sha256(data).hexdigest()} {window_tokens} {overlap}"
