"""SentencePiece and a fast tokenizer made of the same model give the same tokens and places, also where NFKC acts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from stages.errors import ModelError
from stages.runtime.sentences import SentencePieceTokenizer
from stages.runtime.tokens import WindowTokenizer
from tests.stages.tinysafe_checkpoints import TEXTS, WORDS, normalisation, sentence_piece_model

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
NFKC = (
    "ﬁne ﬂour, ½ kitchen ㎏",  # one character becomes several
    "ＷＩＤＥ ｌｅｔｔｅｒ",
    "cafe\u0301 ga\u0308rden A\u030a",  # several become one
    "x² ① ™ … Ⅳ",
    "ﷺ bridge",  # one character becomes several words
    "the\u00a0garden\u3000bridge\u2003letter",  # blanks of other kinds
    "the garden\n\nriver\tbridge\r\nletter",
    "   the  river   ",
    "한국어 ｶﾞｷﾞ 日本 fish",
    "\u200bthe\u200dgarden\ufeff\u00adriver",  # what is dropped
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """``spm.model`` and the ``tokenizer.json`` that transformers' converter of DeBERTa-v3 makes of it."""
    folder = tmp_path_factory.mktemp("tokenizers")
    model = sentence_piece_model()
    (folder / "spm.model").write_bytes(model)
    pieces = SentencePieceProcessor(model_proto=model)
    fast = Tokenizer(Unigram([(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(len(pieces))], unk_id=3))
    fast.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.Precompiled(normalisation(model)), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    fast.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    fast.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    fast.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    fast.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    fast.save(str(folder / "tokenizer.json"))
    return folder / "spm.model", folder / "tokenizer.json"


@pytest.fixture(scope="module")
def pair(paths: tuple[Path, Path]) -> tuple[SentencePieceTokenizer, WindowTokenizer]:
    spm, fast = paths
    return (
        SentencePieceTokenizer(spm, window_tokens=16, overlap=4),
        WindowTokenizer(fast, window_tokens=16, overlap=4),
    )


def test_both_know_the_special_tokens(pair: tuple[SentencePieceTokenizer, WindowTokenizer]) -> None:
    spm, fast = pair
    assert spm.special == fast.special == (1, 2)
    assert spm.largest_id == fast.largest_id


@pytest.mark.parametrize("text", [*TEXTS, *NFKC, " ".join(WORDS)])
def test_the_same_ids(text: str, pair: tuple[SentencePieceTokenizer, WindowTokenizer]) -> None:
    spm, fast = (tokenizer.encode(text) for tokenizer in pair)
    assert [window.ids for window in spm.windows] == [window.ids for window in fast.windows]
    assert (spm.tokens, spm.unknown) == (fast.tokens, fast.unknown)


def test_normalisation_is_sentence_pieces_own(paths: tuple[Path, Path]) -> None:
    spm = SentencePieceTokenizer(paths[0], window_tokens=64, overlap=4)
    assert spm.encode("ｔｈｅ ｂｒｉｄｇｅ").windows[0].ids == spm.encode("the bridge").windows[0].ids
    assert spm.encode("ｔｈｅ ｂｒｉｄｇｅ").unknown == 0


@settings(deadline=None, max_examples=60)
@given(words=st.lists(st.sampled_from([*WORDS, "ﬁ", "½", "é", "本", "!", "\n", "  ", "\u00a0"]), max_size=40))
def test_the_same_ids_for_any_mix(words: list[str], pair: tuple[SentencePieceTokenizer, WindowTokenizer]) -> None:
    text = " ".join(words)
    spm, fast = (tokenizer.encode(text) for tokenizer in pair)
    assert [window.ids for window in spm.windows] == [window.ids for window in fast.windows]


@settings(deadline=None, max_examples=80)
@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=120))
def test_windows_cover_any_text(text: str, pair: tuple[SentencePieceTokenizer, WindowTokenizer]) -> None:
    windows = pair[0].encode(text).windows
    assert (windows[0].start, windows[-1].end) == (0, len(text))
    assert all(2 <= len(window) <= 16 for window in windows)
    for before, after in pairwise(windows):
        assert before.start <= after.start <= before.end <= after.end


def test_places_are_code_points(pair: tuple[SentencePieceTokenizer, WindowTokenizer]) -> None:
    text = "𝒳 ｔｈｅ garden ½ river " * 6
    spm, fast = (tokenizer.encode(text) for tokenizer in pair)
    assert len(spm.windows) > 2
    for window, other in zip(spm.windows, fast.windows, strict=True):
        assert abs(window.start - other.start) <= 1  # a blank belongs to the token before it or behind it
        assert abs(window.end - other.end) <= 1


def test_the_name_of_a_special_token_is_text(pair: tuple[SentencePieceTokenizer, WindowTokenizer]) -> None:
    (window,) = pair[0].encode("[SEP] [CLS]").windows
    assert set(window.ids[1:-1]).isdisjoint({1, 2})


@pytest.mark.parametrize("data", [b"", b"no model"])
def test_a_bad_file_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(data)
    with pytest.raises(ModelError, match=r"spm\.model: not a SentencePiece model"):
        SentencePieceTokenizer(tmp_path / "spm.model", window_tokens=16, overlap=4)


def test_a_model_of_another_family_is_named(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(sentence_piece_model(cls="<s>"))
    with pytest.raises(ModelError, match=r"no piece \[CLS\]"):
        SentencePieceTokenizer(tmp_path / "spm.model", window_tokens=16, overlap=4)
