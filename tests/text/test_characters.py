"""Every character there is, one at a time."""

from __future__ import annotations

import sys
import unicodedata

from cascade.text.characters import plain
from cascade.text.confusables import LOOK, SAME_LOOK
from cascade.text.scripts import script


def test_plain_characters_stay_plain() -> None:
    for code in range(sys.maxunicode + 1):
        form = plain(chr(code))
        if form != chr(code):
            assert "".join(map(plain, form)) == form, hex(code)
            assert len(form) <= 6, hex(code)


def test_ascii_stays_but_for_controls() -> None:
    changed = {chr(code) for code in range(128) if plain(chr(code)) != chr(code)}
    assert all(unicodedata.category(character) == "Cc" for character in changed)
    assert not changed & set("\t\n\r")


def test_look_alikes_are_letters_of_other_scripts_that_nfkc_keeps() -> None:
    for code, latin in LOOK.items():
        assert latin.isascii()
        assert latin.isalpha()
        assert script(chr(code)) not in ("", "Latin")
        assert plain(chr(code)) == chr(code)


def test_look_alikes_cover_the_usual_ones() -> None:
    assert "".join(SAME_LOOK.get(ord(c), "?") for c in "асеорхуіјѕАВЕНКМОРСТХ") == "aceopxyijsABEHKMOPCTX"
