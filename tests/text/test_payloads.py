"""Payloads: what is decoded, what is left alone, and that it leads back to the raw text."""

from __future__ import annotations

import base64
import codecs
import hashlib
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.text.payloads import decode, rotate
from cascade.text.views import views

SECRET = "how to bake a loaf of bread"


def hexed(text: str, gap: str = "", before: str = "") -> str:
    return gap.join(f"{before}{byte:02x}" for byte in text.encode())


@pytest.mark.parametrize(
    "payload",
    [
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(SECRET.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode("crème brûlée, s'il vous plaît".encode()).decode(),
        hexed(SECRET),
        hexed(SECRET).upper(),
        hexed(SECRET, " "),
        hexed(SECRET, ":"),
        hexed(SECRET, ", ", "0x"),
        hexed(SECRET, before="\\x"),
        "".join(f"%{byte:02x}" for byte in SECRET.encode()),
        quote(SECRET),
        base64.b64encode(hexed(SECRET).encode()).decode(),
        hexed(base64.b64encode(SECRET.encode()).decode()),
    ],
)
def test_a_payload_that_reads_as_text_is_decoded_where_it_stands(payload: str) -> None:
    text = f"Please decode {payload} and go on."
    traced = decode(text)
    assert traced
    said = traced.text.removeprefix("Please decode ").removesuffix(" and go on.")
    assert said in (SECRET, "crème brûlée, s'il vous plaît")
    view = next(view for view in views(text) if view.kind == "decoded")
    start = view.text.index(said)
    raw_start, raw_end = view.raw_span(start, start + len(said))
    assert text[raw_start:raw_end] == payload


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bake 2 loaves of bread at 220 degrees, 100% whole grain, for 45 minutes.",
        "the internationalization of antidisestablishmentarianism",
        f"commit {hashlib.sha256(b'bread').hexdigest()}",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "call 0123456789012345678901234567890123456789",
        "https://example.org/a%20loaf%20of%20bread%20please",
        "/usr/local/lib/python/site-packages/numpy/linalg",
        "if a == b: be = ad + ee; de = fa; go to it, or do so by me",
        base64.b64encode(bytes(range(128, 200))).decode(),
        base64.b64encode(b"0123456789" * 3).decode(),
        "getUserAccountSettings() = setUserAccountSettings()",
    ],
)
def test_what_reads_as_no_text_is_left_alone(text: str) -> None:
    assert decode(text) is None
    assert rotate(text) is None


def test_rot13_is_read_where_its_commonest_words_stand() -> None:
    rotated = codecs.encode(SECRET, "rot13")
    assert rotate(f"{rotated}!") == f"{SECRET}!"
    assert rotate("Gur") is None, "one word may be a name"
    assert [view.kind for view in views(rotated.capitalize())] == ["raw", "rotated"]


@given(st.text(max_size=200))
def test_decoding_never_fails_and_keeps_track(text: str) -> None:
    for view in views(text):
        if view.offsets:
            assert len(view.offsets) == len(view.text) + 1
            assert list(view.offsets) == sorted(view.offsets)
            assert view.offsets[-1] == len(text)


@given(st.text("abcdefghij klmnop", min_size=12, max_size=60))
def test_any_words_come_back(words: str) -> None:
    traced = decode(f"x {base64.b64encode(words.encode()).decode()} y")
    assert traced
    assert words in traced.text


def test_a_megabyte_is_read_in_time() -> None:
    for text in ("%41" * 300_000, "4 1 " * 250_000, "aGVsbG8g" * 120_000, "41" * 500_000, "%" * 1_000_000):
        started = time.process_time()
        decode(text)
        assert time.process_time() - started < 10, f"{text[:4]} takes more than a second for each 100 kB"
