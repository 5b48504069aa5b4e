"""Makes windows with a fast tokenizer; needs only `tokenizers`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from stages.errors import ModelError
from stages.runtime.windows import Cutter, cut_of
from stages.stage import Encoding


class WindowTokenizer:
    """A ``tokenizer.json`` with a window of ``window_tokens`` (special tokens included) and an overlap, in tokens.

    ``special`` are the ids that it puts around a text; tokenizers with the same ``cut`` make the same windows.

    Raises:
        ModelError: the file is no tokenizer, or the window does not hold twice the overlap.
    """

    def __init__(self, path: Path, *, window_tokens: int, overlap: int) -> None:
        self.path, self.window_tokens, self.overlap = path, window_tokens, overlap
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exceptions for every kind of bad file
            raise ModelError(f"{path}: not a tokenizer ({error})") from error
        self.cut = cut_of(path, window_tokens, overlap)
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
        return self._cutter.cut(text, encoded.ids, encoded.offsets, self._unknown)
