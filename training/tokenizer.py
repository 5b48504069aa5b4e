"""The fast tokenizer of a backbone folder; made out of ``spm.model`` where there is no ``tokenizer.json`` (DeBERTa-v3).

transformers 5 would build one as well, but without the normalisation that stands in the SentencePiece model. This one
has it, and is compared with SentencePiece itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from stages.errors import ModelError
from stages.runtime.sentences import SentencePieceTokenizer
from training.golden import GOLDEN_TEXTS
from training.sentences import SENTENCES

TOKENIZER, SENTENCE_PIECES = "tokenizer.json", "spm.model"
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
# Where normalisation shows: ligatures, full width, no-break and doubled spaces, combining marks, half-width kana.
HARD = (
    "ﬁne　ｗｉｄｅ",
    "  two\u00a0 spaces ",
    "e\u0301tude №5 ½",
    "ﾊﾝｶｸ カナ",
    "tab\tand\nline",
    "[CLS] is text? \u200b",
    "",
)


def tokenizer_of(folder: Path, *, rows: int | None = None) -> Tokenizer:
    """The tokenizer of a backbone, whose embedding table has ``rows`` rows.

    Raises:
        ModelError: the folder has none, it is damaged or another model's, or a fast one made of ``spm.model`` differs
            from SentencePiece.
    """
    tokenizer = _tokenizer_of(folder)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if rows is not None and largest >= rows:
        raise ModelError(
            f"{folder}: its tokenizer gives ids up to {largest}, the embedding table has {rows} rows: "
            "it is another model's"
        )
    return tokenizer


def _tokenizer_of(folder: Path) -> Tokenizer:
    path = folder / TOKENIZER
    if path.is_file():
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exceptions for every kind of bad file
            raise ModelError(f"{path}: not a tokenizer ({error})") from error
    path = folder / SENTENCE_PIECES
    if not path.is_file():
        raise ModelError(f"{folder}: neither {TOKENIZER} nor {SENTENCE_PIECES}")
    slow = SentencePieceTokenizer(path, window_tokens=512, overlap=0)  # refuses what is no such file
    fast = _converted(path)
    for text in (*GOLDEN_TEXTS, *(text for texts in SENTENCES.values() for text in texts), *HARD):
        if tuple(fast.encode(text).ids) != slow.encode(text).windows[0].ids:
            raise ModelError(f"{path}: the fast tokenizer made of it differs from SentencePiece")
    return fast


def _converted(path: Path) -> Tokenizer:
    from sentencepiece import sentencepiece_model_pb2 as pb2

    proto: Any = pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(path.read_bytes())
    ids = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    # SentencePiece never finds a control piece in a text; under another name this tokenizer does not either.
    pieces = [(f"\ue000{p.piece}" if p.type == p.CONTROL else p.piece, p.score) for p in proto.pieces]
    lacking = [name for name in SPECIAL if name not in ids]
    if lacking:
        raise ModelError(f"{path}: no piece {lacking[0]}, so it is no DeBERTa-v3 tokenizer")
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=ids["[UNK]"], byte_fallback=proto.trainer_spec.byte_fallback))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = normalizers.Sequence(
        [
            *([normalizers.Precompiled(charsmap)] if charsmap else []),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    )
    return tokenizer


def write_tokenizer(folder: Path, out: Path) -> None:
    """Puts a backbone's fast tokenizer into a model folder: a copy of its file, where it has one."""
    if (folder / TOKENIZER).is_file():
        shutil.copyfile(folder / TOKENIZER, out)
    else:
        tokenizer_of(folder).save(str(out))
