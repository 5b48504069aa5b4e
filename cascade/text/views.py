"""The views of a text that a stage scores side by side: the raw text always, and others where they say more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cascade.text.canonical import canonicalise
from cascade.text.payloads import decode, rotate

DECODED, ROTATED = "decoded", "rotated"


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text.

    ``offsets`` says for each character of ``text`` the raw code point that it came from, and ends with the length of
    the raw text; None for the raw view, where each is its own.
    """

    kind: str
    text: str
    offsets: tuple[int, ...] | None = None

    def raw_span(self, start: int, end: int) -> tuple[int, int]:
        """The raw code points behind ``text[start:end]``, at least one unless the span is empty."""
        if self.offsets is None:
            return start, end
        first = self.offsets[start]
        return first, max(self.offsets[end], self.offsets[end - 1] + 1) if start < end else first


def views(text: str) -> tuple[View, ...]:
    """The views of a text, raw first. Never raises on a text without surrogates; linear in time."""
    others = (make(text) for make in _DERIVED)
    return (View("raw", text), *(view for view in others if view is not None))


def canonical_view(text: str) -> View | None:
    """The canonical view, or None where it has the same words as the raw text.

    Only letters count: "m²" and "m2", or wide and narrow commas, are not worth a second scoring.
    """
    traced = canonicalise(text)
    if traced.text == text or _words(traced.text) == _words(text):
        return None
    return View("canonical", traced.text, tuple(traced.origins))


def decoded_view(text: str) -> View | None:
    """The view with payloads in base64, hex or percent signs decoded, or None where none of them reads as text."""
    traced = decode(text)
    return None if traced is None else View(DECODED, traced.text, tuple(traced.origins))


def rotated_view(text: str) -> View | None:
    """The view in rot13, or None where that is not likely to say more."""
    rotated = rotate(text)
    return None if rotated is None else View(ROTATED, rotated, tuple(range(len(text) + 1)))


def _words(text: str) -> list[str]:
    return "".join(character if character.isalpha() else " " for character in text).split()


# What is derived from the raw text, in the order in which it is scored.
_DERIVED: tuple[Callable[[str], View | None], ...] = (canonical_view, decoded_view, rotated_view)
