"""Messages in pieces: which turns go on with which, and that all of them, and nothing else, is put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.text.joint import MARK, Said, escape
from cascade.text.pieces import goes_on, last_message


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        ("how do I bake", "a loaf of bread?", True),
        ("flour, water,", "and 3 eggs", True),
        ("I need", "3 eggs", True),
        ("wie backe ich ein", "Brot?", False),
        ("How do I bake?", "a loaf", False),
        ("how do I bake (bread)", "a loaf", False),
        ("how do I bake “bread”", "a loaf", False),
        ("how do I bake  \n", "a loaf", True),
        ("怎么做", "面包", True),
        ("怎么做面包。", "好的", False),
        ("كيف أخبز؟", "رغيف", False),
        ("", "a loaf", False),
        ("   ", "a loaf", False),
        ("how", "?", True),
    ],
)
def test_a_text_goes_on_where_the_one_before_breaks_off(before: str, text: str, expected: bool) -> None:
    assert goes_on(before, text) is expected


def turns(*texts: str) -> list[Said]:
    """Turns of the user, but for those in brackets."""
    return [
        Said("assistant" if text.startswith("[") else "user", f"turns[{index}]", text)
        for index, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["how do I", "bake", "bread"], "how do I bake bread"),
        (["how do I", "[Yes?]", "bake", "[And?]", "bread"], "how do I bake bread"),
        (["I am tired.", "how do I", "bake"], "how do I bake"),
        (["how do I bake", "How are you"], None),
        (["how do I bake", "[a loaf]"], None),
        (["[well", "how do I", "[you do"], "[well [you do"),
        (["bread"], None),
    ],
)
def test_the_last_message_in_one_piece(said: list[str], expected: str | None) -> None:
    message = last_message(turns(*said))
    assert (message.text if message else None) == expected


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.just(MARK), min_size=1, max_size=6))
def test_every_code_point_of_a_message_leads_back_to_its_field(texts: list[str]) -> None:
    said = [Said("user", f"turns[{index}]", text) for index, text in enumerate(texts)]
    message = last_message(said)
    if message is None:
        return
    assert MARK not in message.text
    taken = len(message.pieces)
    assert taken > 1
    assert message.text == " ".join(escape(text) for text in texts[-taken:])
    for start in range(len(message.text)):
        for field, first, last in message.places(start, start + 1):
            assert escape(texts[int(field[6:-1])][first:last]) == message.text[start]
    places = sum(last - first for _, first, last in message.places(0, len(message.text)))
    assert places == sum(map(len, texts[-taken:]))
