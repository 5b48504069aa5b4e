"""A fast tokenizer made of spm.model gives SentencePiece's own tokens, normalisation included."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.errors import ModelError
from stages.runtime.sentences import SentencePieceTokenizer
from stages.runtime.tokens import WindowTokenizer
from tests.training.backbones import deberta_backbone
from training import tokenizer
from training.tokenizer import tokenizer_of, write_tokenizer

TEXTS = ["Ｔｈｅ ｏｌｄ ｃｌｏｃｋ", "ﬁne  weather\u00a0today", "e\u0301tude", "draw [SEP] it", "𝓯𝓪𝓷𝓬𝔂 text 🎈", ""]


def test_the_fast_tokenizer_agrees_with_sentencepiece_on_text_that_is_not_nfkc(tmp_path: Path) -> None:
    base = deberta_backbone(tmp_path / "base")
    write_tokenizer(base, tmp_path / "tokenizer.json")
    fast = WindowTokenizer(tmp_path / "tokenizer.json", window_tokens=64, overlap=8)
    slow = SentencePieceTokenizer(base / "spm.model", window_tokens=64, overlap=8)
    for text in TEXTS:
        assert fast.encode(text).windows[0].ids == slow.encode(text).windows[0].ids, text


def test_one_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = deberta_backbone(tmp_path / "base")
    usual = tokenizer._converted

    def without_normalisation(path: Path):
        made = usual(path)
        made.normalizer = None
        return made

    monkeypatch.setattr(tokenizer, "_converted", without_normalisation)
    with pytest.raises(ModelError, match="differs from SentencePiece"):
        tokenizer_of(base)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither tokenizer\.json nor spm\.model"):
        tokenizer_of(tmp_path)
