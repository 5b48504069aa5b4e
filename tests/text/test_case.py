"""Case that is noise, and case that means something."""

from __future__ import annotations

import pytest

from cascade.text.canonical import canonical
from cascade.text.case import is_noisy


@pytest.mark.parametrize("text", ["hOw tO bAkE bReAd", "HoW dO yOu BaKe A lOaF", "pLeAsE bAkE"])
def test_noise_is_seen_and_calmed(text: str) -> None:
    assert is_noisy(text)
    assert canonical(text).lower() == text.lower()
    assert not is_noisy(canonical(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "How do I bake bread?",
        "HOW DO I BAKE BREAD?",
        "An iPhone, a MacBook and a PowerPoint file",
        "user = getUserName(userId); if (user.isActive) { sendMail(user); return getNextUser(user, options); }",
        "McDonald and O'Brien met in LaTeX class",
    ],
)
def test_names_and_code_are_no_noise(text: str) -> None:
    assert not is_noisy(text)
    assert canonical(text) == text
