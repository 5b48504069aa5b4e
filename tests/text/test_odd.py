"""Words that nobody writes, and how many of them make a text odd."""

from __future__ import annotations

import pytest

from cascade.text.odd import is_odd


@pytest.mark.parametrize(
    "text",
    [
        "How do I bake bread at home? My URLs, PCs and CEOs are fine.",
        "Bake the bread in 2024, the 4th time, for 3D printing with mp3 and sha256.",
        "I write JavaScript and TypeScript on my MacBook for YouTube.",
        "@baker and @miller said so",
        "tHE bread and nothing else is odd here",
        "",
    ],
)
def test_ordinary_texts_are_not_odd(text: str) -> None:
    assert not is_odd(text)


@pytest.mark.parametrize(
    "text",
    [
        "tHE BReAD is in HErs oven",
        "bake br34d in the 0ven, t0m0rrow, p1ease",
        "ba\u200bke the bre\u2060ad now",
        "b\u0336\u0336\u0336ake br\u0336\u0336\u0336ead",
        "p@sta and pizz@s with br$ead and p@stry",
    ],
)
def test_disguised_words_are_odd(text: str) -> None:
    assert is_odd(text)


def test_a_few_odd_words_in_a_long_text_are_no_disguise() -> None:
    assert not is_odd("bread is good for you and for me " * 10 + "tHE BReAD")
