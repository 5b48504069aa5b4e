"""What is asked of a measured figure: *figure, bound* -> whether it holds, for a line of JSON and for the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any


@dataclass(frozen=True)
class Bound:
    """A figure that is to be at least or at most something; one that is no number never is."""

    value: float
    least: float = -inf
    most: float = inf

    @property
    def holds(self) -> bool:
        """Whether it is."""
        return self.least <= self.value <= self.most

    def described(self) -> dict[str, Any]:
        """As JSON, without the side that has no bound."""
        sides = {"value": self.value, "least": self.least, "most": self.most}
        told = {side: round(number, 5) for side, number in sides.items() if isfinite(number)}
        return {"value": None} | told | {"holds": self.holds}


def described(bounds: Mapping[str, Bound]) -> dict[str, dict[str, Any]]:
    """All of them as JSON."""
    return {name: bound.described() for name, bound in bounds.items()}


def exit_code(bounds: Mapping[str, Bound]) -> int:
    """1 if one is missed."""
    return 0 if all(bound.holds for bound in bounds.values()) else 1
