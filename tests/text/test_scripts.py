"""Scripts of letters and the share that a model does not read."""

from __future__ import annotations

import pytest

from cascade.text.scripts import script, unread_share


@pytest.mark.parametrize(
    ("character", "name"),
    [("a", "Latin"), ("ß", "Latin"), ("ａ", "Latin"), ("𝓪", "Latin"), ("ж", "Cyrillic"), ("λ", "Greek"), ("字", "Han"),
     ("々", "Han"), ("か", "Hiragana"), ("ー", "Katakana"), ("ｶ", "Katakana"), ("가", "Hangul"), ("م", "Arabic"),
     ("ש", "Hebrew"), ("ह", "Devanagari"), ("ก", "Thai"), ("1", ""), (" ", ""), ("!", ""), ("😀", ""), ("ʼ", "")],
)  # fmt: skip
def test_script(character: str, name: str) -> None:
    assert script(character) == name


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 0.0), ("123 !? 😀", 0.0), ("bread", 0.0), ("хлеб", 1.0), ("bread хлеб", 4 / 9), ("ab 字字 1234567", 0.5)],
)
def test_unread_share(text: str, share: float) -> None:
    assert unread_share(text) == pytest.approx(share)


def test_scripts_that_are_read_count_as_read() -> None:
    assert unread_share("bread хлеб", ("Latin", "Cyrillic")) == 0.0
