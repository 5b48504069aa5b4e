"""Cuts a text into overlapping windows of tokens that cover all of it; needs only `tokenizers`."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from stages.errors import ModelError
from stages.stage import Encoding, Window


class WindowTokenizer:
    """A ``tokenizer.json`` with a window of ``window_tokens`` (special tokens included) and an overlap, in tokens.

    Raises:
        ModelError: the file is no tokenizer, or the window does not hold twice the overlap.
    """

    def __init__(self, path: Path, *, window_tokens: int, overlap: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exceptions for every kind of bad file
            raise ModelError(f"{path}: not a tokenizer ({error})") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        special = self._tokenizer.encode("", add_special_tokens=True).ids
        self._first, self._last = tuple(special[:1]), tuple(special[1:])
        self._size = window_tokens - len(special)
        self._stride = self._size - overlap
        if overlap < 0 or self._stride < overlap:
            raise ModelError(f"a window of {window_tokens} tokens is too small for an overlap of {overlap}")
        unknown = self._tokenizer.token_to_id("[UNK]")
        self._unknown = unknown if unknown is not None else self._tokenizer.token_to_id("<unk>")

    def encode(self, text: str) -> Encoding:
        """See :meth:`stages.stage.Stage.encode`."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        ids, total = encoded.ids, len(encoded.ids)
        if total <= self._size:
            return Encoding((Window((*self._first, *ids, *self._last), 0, len(text)),), total, self._count(ids))
        # The last window ends with the text, so that it is as long as the others and sees as much context.
        starts = [*range(0, total - self._size, self._stride), total - self._size]
        offsets = encoded.offsets
        windows = [
            Window(
                (*self._first, *ids[start : start + self._size], *self._last),
                offsets[start][0] if start else 0,
                offsets[start + self._size - 1][1] if start + self._size < total else len(text),
            )
            for start in starts
        ]
        return Encoding(tuple(windows), total, self._count(ids))

    def _count(self, ids: list[int]) -> int:
        return ids.count(self._unknown) if self._unknown is not None else 0
