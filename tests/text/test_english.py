"""Which texts cannot be English; the sentences of our own in twenty languages are the sample."""

from __future__ import annotations

import pytest

from cascade.text.english import cannot_be_english
from training.sentences import SENTENCES

LATIN = ("de", "es", "fr", "it", "pt", "nl", "pl", "tr", "vi", "id")


@pytest.mark.parametrize("language", LATIN)
def test_other_languages_are_told(language: str) -> None:
    assert all(map(cannot_be_english, SENTENCES[language]))


def test_english_is_not_mistaken() -> None:
    assert not any(map(cannot_be_english, SENTENCES["en"]))


def test_short_and_repeated_words_prove_nothing() -> None:
    assert not cannot_be_english("sourdough rye")
    assert not cannot_be_english("sourdough " * 100)
    assert not cannot_be_english("")
