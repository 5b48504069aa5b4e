"""What an operator wishes for: *options* -> wishes, each a limit on a share of texts, overall or for one hazard.

- ``escalation``: of all texts, those that go on to stage 2.
- ``missed_unsafe``: of the unsafe texts, those whose verdict is not UNSAFE. For a hazard: of the texts that carry it,
  those on which it is not flagged.
- ``false_positive``: of the harmless texts, those whose verdict is UNSAFE. For a hazard: those on which it is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from stages.errors import CascadeError
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS

Kind = Literal["escalation", "missed_unsafe", "false_positive"]
OF: dict[Kind, str] = {"escalation": "texts", "missed_unsafe": "unsafe texts", "false_positive": "harmless texts"}


class WishError(CascadeError):
    """A wish makes no sense: no number between 0 and 1, no hazard that there is, or said twice."""

    reason = "BAD_WISH"


@dataclass(frozen=True, slots=True)
class Wish:
    """A share of texts that is to be at most ``limit``; ``hazard`` is a slug, empty for all texts together."""

    kind: Kind
    limit: float
    hazard: str = ""

    @property
    def name(self) -> str:
        """For instance ``escalation`` or ``missed_unsafe.privacy``."""
        return f"{self.kind}.{self.hazard}" if self.hazard else self.kind

    @property
    def of(self) -> str:
        """The rows that it speaks of, in words."""
        return f"texts with {self.hazard}" if self.hazard and self.kind == "missed_unsafe" else OF[self.kind]


def parse_wishes(escalation: float | None, missed: Iterable[str], false_positive: Iterable[str]) -> tuple[Wish, ...]:
    """The wishes that the options of ``cascade tune`` say: ``0.02`` for all texts, ``privacy=0.1`` for a hazard.

    Raises:
        WishError: one of them makes no sense, or there is none.
    """
    found = [] if escalation is None else [Wish("escalation", _limit(str(escalation), "--max-escalation"))]
    kinds: tuple[tuple[Kind, Iterable[str], str], ...] = (
        ("missed_unsafe", missed, "--max-missed-unsafe"),
        ("false_positive", false_positive, "--max-false-positive"),
    )
    for kind, values, option in kinds:
        for value in values:
            hazard, equals, number = value.rpartition("=")
            if equals and hazard not in HAZARD_INDEX:
                raise WishError(f"{option} {value}: {hazard!r} is no hazard; there are {', '.join(HAZARD_SLUGS)}")
            found.append(Wish(kind, _limit(number, option), hazard))
    _check(found)
    return tuple(found)


def _limit(number: str, option: str) -> float:
    try:
        limit = float(number)
    except ValueError:
        raise WishError(f"{option} {number}: no number") from None
    if not 0 < limit < 1:
        raise WishError(f"{option} {number}: a share lies between 0 and 1; 0 and 1 themselves prove nothing")
    return limit


def _check(wishes: Sequence[Wish]) -> None:
    if not wishes:
        raise WishError("nothing to promise: give --max-escalation, --max-missed-unsafe or --max-false-positive")
    names = [wish.name for wish in wishes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise WishError(f"said twice: {', '.join(twice)}")
