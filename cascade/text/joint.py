"""Several texts as one, in the order in which they were said, each behind a marker of who said it.

``¶ user ¶ How do I ... ¶ assistant ¶ First, ...``: the pilcrow is a token of its own to the embedded models, and a
pilcrow in a text is written as a bar, so that no text can pretend to be a turn. Nothing else is changed, and the length
is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MARK, STAND_IN = "¶", "|"
DEFAULT_ROLE = "user"
MAX_LENGTH = 800  # code points of said text: about as much as a window of the embedded models holds
MIN_LATEST = 400  # of them that the latest text may have, whatever was said before
_ENOUGH = 4  # code points: a shorter end of an old text says nothing


@dataclass(frozen=True, slots=True)
class Said:
    """A text, the field that it stands in, and who said it: a role of the contract, empty for a user."""

    role: str
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a joint text, from ``start`` up to ``end``, that is text of a field from ``offset`` on."""

    field: str
    start: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True)
class Joint:
    """Texts as one; ``pieces`` say where each of them lies."""

    text: str
    pieces: tuple[Piece, ...]

    def places(self, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Field, first and last code point of what lies between two places of the joint text; markers lie nowhere."""
        for piece in self.pieces:
            first, last = max(start, piece.start), min(end, piece.end)
            if first < last:
                shift = piece.offset - piece.start
                yield piece.field, first + shift, last + shift


def join(said: Sequence[Said]) -> tuple[Joint, Joint]:
    """The latest text behind what was said before it, and what was said before alone; at least two texts.

    Of the latest text the beginning is taken, of the older ones the end, as much as ``MAX_LENGTH`` allows.
    """
    *older, latest = said
    history = sum(len(each.text) for each in older)
    taken = [(latest, 0, min(len(latest.text), max(MIN_LATEST, MAX_LENGTH - history)))]
    room = MAX_LENGTH - taken[0][2]
    for each in reversed(older):
        if room < min(_ENOUGH, len(each.text)):
            break
        start = max(0, len(each.text) - room)
        taken.insert(0, (each, start, len(each.text)))
        room -= len(each.text) - start
    return _write(taken), _write(taken[:-1])


def escape(text: str) -> str:
    """A text that holds no marker; as long as it was."""
    return text.replace(MARK, STAND_IN)


def keep_markers(text: str, derived: str, origins: Sequence[int]) -> str:
    """A view of a joint text without the pilcrows that are none in it, say out of a decoded payload; as long as it was.

    ``origins`` says for each character of the view which one of the joint text it comes from.
    """
    if MARK not in derived:
        return derived
    pairs = zip(derived, origins, strict=False)
    return "".join(STAND_IN if character == MARK != text[origin] else character for character, origin in pairs)


def _write(taken: Sequence[tuple[Said, int, int]]) -> Joint:
    text, pieces = "", []
    for said, start, end in taken:
        text += f"{' ' if text else ''}{MARK} {said.role or DEFAULT_ROLE} {MARK} "
        pieces.append(Piece(said.field, len(text), len(text) + end - start, start))
        text += escape(said.text[start:end])
    return Joint(text, tuple(pieces))
