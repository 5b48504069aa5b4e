"""Makes windows with a fast tokenizer; needs only `tokenizers`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from stages.errors import ModelError
from stages.runtime.windows import Cutter, cut_of
from stages.stage import Encoding, Window


class WindowTokenizer:
    """A ``tokenizer.json`` with a window of ``window_tokens`` (special tokens included) and an overlap, in tokens.

    ``special`` are the ids that it puts around a text; tokenizers with the same ``cut`` make the same windows. A text
    of no token at all, such as decoders without special tokens give an empty one, becomes the token ``filler``.

    Raises:
        ModelError: the file is no tokenizer, or the window does not hold twice the overlap.
    """

    def __init__(self, path: Path, *, window_tokens: int, overlap: int, filler: int | None = None) -> None:
        self.window_tokens, self.overlap, self.filler = window_tokens, overlap, filler
        try:
            self.data = path.read_bytes()  # kept: another process may ask for it when the file is gone
            self._tokenizer = Tokenizer.from_buffer(self.data)
        except Exception as error:  # tokenizers raises bare Exceptions for every kind of bad file
            raise ModelError(f"{path}: not a tokenizer ({error})") from error
        self.cut = cut_of(self.data, window_tokens, overlap) + ("" if filler is None else f" {filler}")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.special = tuple(self._tokenizer.encode("", add_special_tokens=True).ids)
        self._cutter = Cutter(window_tokens, overlap, self.special[:1], self.special[1:])
        unknown = self._tokenizer.token_to_id("[UNK]")
        self._unknown = unknown if unknown is not None else self._tokenizer.token_to_id("<unk>")

    @cached_property
    def largest_id(self) -> int:
        """The largest id that it gives; the first use goes through the whole vocabulary."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)

    def encode(self, text: str) -> Encoding:
        """See :meth:`stages.stage.Stage.encode`."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        encoding = self._cutter.cut(text, encoded.ids, encoded.offsets, self._unknown)
        if self.filler is None or encoding.windows[0].ids:
            return encoding
        return Encoding((Window((self.filler,), 0, len(text)),), encoding.tokens, encoding.unknown)
