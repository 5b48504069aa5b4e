"""Makes windows with a SentencePiece model; needs only `sentencepiece`."""

from __future__ import annotations

from pathlib import Path

from stages.errors import ModelError
from stages.runtime.windows import Cutter, cut_of
from stages.stage import Encoding


class SentencePieceTokenizer:
    """A SentencePiece model (``spm.model``) whose texts stand between ``[CLS]`` and ``[SEP]``.

    SentencePiece applies the normalisation that the model file holds (NFKC with DeBERTa-v3), as the slow tokenizer of
    transformers 4 let it, under which these models were trained. The tokenizer of that name in transformers 5 does
    not. Names of special tokens that stand in a text are text.

    ``special`` are the ids around a text; tokenizers with the same ``cut`` make the same windows.

    Raises:
        ModelError: the file is no SentencePiece model, lacks a special piece, or the window is too small.
    """

    def __init__(self, path: Path, *, window_tokens: int, overlap: int) -> None:
        from sentencepiece import SentencePieceProcessor  # most models need none: it is not loaded for them

        self.window_tokens, self.overlap = window_tokens, overlap
        try:
            self.data = path.read_bytes()  # kept: another process may ask for it when the file is gone
            self._pieces = SentencePieceProcessor.from_proto(self.data)
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"{path}: not a SentencePiece model ({error})") from error
        self.cut = cut_of(self.data, window_tokens, overlap)
        self._unknown = int(self._pieces.unk_id())
        first, last, self.pad_id = (self._special(path, name) for name in ("[CLS]", "[SEP]", "[PAD]"))
        self.special: tuple[int, ...] = (first, last)
        self._cutter = Cutter(window_tokens, overlap, (first,), (last,))

    @property
    def largest_id(self) -> int:
        """The largest id that it gives."""
        return len(self._pieces) - 1

    def encode(self, text: str) -> Encoding:
        """See :meth:`stages.stage.Stage.encode`."""
        found = self._pieces.encode(text, return_type="offset_mapping")
        return self._cutter.cut(text, found["ids"], found["offsets"], self._unknown)

    def _special(self, path: Path, name: str) -> int:
        number = int(self._pieces.piece_to_id(name))
        if number == self._unknown:
            raise ModelError(f"{path}: it has no piece {name}, so it is not a tokenizer of this family")
        return number
