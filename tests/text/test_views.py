"""Views: when there is more than one, and that spans of each lead back to the raw text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.text.views import View, views


def test_ordinary_text_has_one_view() -> None:
    assert views("Bake 2 loaves.") == (View("raw", "Bake 2 loaves."),)


@pytest.mark.parametrize(
    "text",
    ["", "1 m² and ½ cup", "你好，世界！", "wait!!!!!!!!", "❤️ 👩‍👩‍👧", "\u200b", "non\u00a0breaking"],
)
def test_differences_without_letters_are_not_worth_a_view(text: str) -> None:
    assert [view.kind for view in views(text)] == ["raw"]


def test_raw_comes_first_and_unchanged() -> None:
    raw, canonical = views("h\u200b0w to b.a.k.e")
    assert (raw.kind, raw.text, raw.offsets) == ("raw", "h\u200b0w to b.a.k.e", None)
    assert (canonical.kind, canonical.text) == ("canonical", "how to bake")


def test_spans_lead_back_to_the_raw_text() -> None:
    text = "I say: b.\u200bа.k.e ﬁne!"
    canonical = views(text)[1]
    assert canonical.text == "I say: bake fine!"
    start, end = canonical.raw_span(7, 11)
    assert text[start:end].rstrip() == "b.\u200bа.k.e"
    f = canonical.text.index("f")
    assert text[slice(*canonical.raw_span(f, f + 1))] == "ﬁ"
    assert text[slice(*canonical.raw_span(f + 1, f + 2))] == "ﬁ"
    assert canonical.raw_span(0, len(canonical.text)) == (0, len(text))


def test_raw_spans_are_themselves() -> None:
    assert View("raw", "bake").raw_span(1, 3) == (1, 3)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=50), st.data())
def test_any_span_of_any_view_is_a_span_of_the_raw_text(text: str, data: st.DataObject) -> None:
    for view in views(text):
        start = data.draw(st.integers(0, len(view.text)))
        end = data.draw(st.integers(start, len(view.text)))
        raw_start, raw_end = view.raw_span(start, end)
        assert 0 <= raw_start <= raw_end <= len(text)
        assert raw_start < raw_end or start == end
