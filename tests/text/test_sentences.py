"""Parts of a text: sentences where there are some, else groups of words, and nothing twice or left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.text.sentences import FEW, GROUPS, parts


def texts(text: str) -> list[str]:
    return [text[start:end] for start, end in parts(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Knead it. Let it rise! Bake it?", ["Knead it.", "Let it rise!", "Bake it?"]),
        ("Use 1.5 kg. Then “wait.” Then bake.", ["Use 1.5 kg.", "Then “wait.”", "Then bake."]),
        ("first\nsecond\n\nthird", ["first", "second", "third"]),
        ("揉面。发酵！烤面包？", ["揉面。", "发酵！", "烤面包？"]),
        ("Knead it. Bake it.", ["Knead", "it.", "Bake", "it."]),
        ("面包怎么做", ["面", "包", "怎", "么", "做"]),
        ("bread", ["bread"]),
        (" \n ", []),
        ("", []),
    ],
)
def test_parts(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_many_words_of_few_sentences_are_taken_together() -> None:
    found = texts(" ".join(f"word{number}" for number in range(100)))
    assert FEW <= len(found) <= GROUPS
    assert found[0].split() == [f"word{number}" for number in range(13)]


@given(st.text(alphabet="ab .!?。\n\"'”…é面", max_size=80) | st.text(max_size=80))
def test_parts_hold_everything_but_white_space_once_and_in_order(text: str) -> None:
    end = 0
    for start, stop in parts(text):
        assert end <= start < stop <= len(text)
        assert not text[end:start].strip()
        end = stop
    assert not text[end:].strip()
