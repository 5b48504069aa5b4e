"""Windows cover a text whole, whatever the text."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.encoder import TOKENIZER
from stages.errors import ModelError
from stages.manifest import Manifest
from stages.registry import EMBEDDED
from stages.runtime.tokens import WindowTokenizer

PATHS = {name: folder / TOKENIZER for name, folder in EMBEDDED.items()}
SMALL = {name: WindowTokenizer(path, window_tokens=18, overlap=4) for name, path in PATHS.items()}
WHOLE = {name: WindowTokenizer(path, window_tokens=100_000, overlap=0) for name, path in PATHS.items()}
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)


@pytest.mark.parametrize("name", PATHS)
@settings(deadline=None, max_examples=150)
@given(text=TEXTS)
def test_windows_cover_the_text_and_fit(name, text):
    windows = SMALL[name].encode(text).windows
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    for before, after in pairwise(windows):
        assert before.start <= after.start <= before.end <= after.end
    assert all(2 <= len(window) <= 18 for window in windows)


@pytest.mark.parametrize("name", PATHS)
@settings(deadline=None, max_examples=100)
@given(text=TEXTS)
def test_the_windows_hold_each_token_in_order(name, text):
    whole = WHOLE[name].encode(text)
    pieces = SMALL[name].encode(text)
    assert pieces.tokens == whole.tokens == len(whole.windows[0]) - 2
    found = list(pieces.windows[0].ids[1:-1])
    for window in pieces.windows[1:-1]:
        found += window.ids[1:-1][4:]
    if len(pieces.windows) > 1:  # the last one is as long as the others, so it overlaps by what is left
        found += pieces.windows[-1].ids[1:-1][-(whole.tokens - len(found)) :]
    assert tuple(found) == whole.windows[0].ids[1:-1]


def test_offsets_are_code_points():
    text = "🙂 naïve café " * 30
    windows = SMALL["tinysafe"].encode(text).windows
    assert len(windows) > 3
    assert "".join(text[w.start : w.end] for w in windows[:1]) == text[: windows[0].end]
    assert windows[1].start < windows[0].end < len(text)


def test_unknown_tokens_are_counted():
    encoding = SMALL["tinysafe"].encode("hello ᚠᛇᚻ")
    assert encoding.unknown >= 1
    assert encoding.unknown < encoding.tokens


def test_a_window_that_is_too_small_is_refused():
    with pytest.raises(ModelError, match="overlap"):
        WindowTokenizer(PATHS["tinysafe"], window_tokens=10, overlap=6)


def test_the_embedded_windows_hold_their_overlap():
    for folder in EMBEDDED.values():
        manifest = Manifest.load(folder)
        assert manifest.window_tokens - 2 >= 2 * manifest.overlap
