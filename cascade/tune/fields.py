"""A line of JSON that anybody may have written -> values of the types that are wanted, or an error with its place.

``where`` names the line in errors. A key without a value counts as left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from cascade.evaluate.rows import DataError

MOST = 2**63 - 1  # of a count


def parse(line: str, where: str) -> dict[str, Any]:
    """The object of a line."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: not JSON") from None
    if not isinstance(raw, dict):
        raise DataError(f"{where}: no JSON object")
    return raw


def table(raw: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """An object."""
    found = raw.get(key)
    if found is not None and not isinstance(found, dict):
        raise DataError(f"{where}: {key!r} must be an object")
    return found or {}


def tables(raw: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """A list of objects."""
    found = raw.get(key)
    if found is not None and (not isinstance(found, list) or not all(isinstance(item, dict) for item in found)):
        raise DataError(f"{where}: {key!r} must be a list of objects")
    return found or []


def words(raw: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A list of strings."""
    found = raw.get(key)
    if found is not None and (not isinstance(found, list) or not all(map(_is_text, found))):
        raise DataError(f"{where}: {key!r} must be a list of strings")
    return tuple(found or ())


def word(raw: Mapping[str, Any], key: str, where: str, default: str = "") -> str:
    """A string; a number counts as its digits."""
    found = raw.get(key)
    if isinstance(found, int | float):
        return str(found)
    if found is not None and not _is_text(found):
        raise DataError(f"{where}: {key!r} must be a string")
    return default if found is None else found


def truth(raw: Mapping[str, Any], key: str, where: str) -> bool:
    """A truth value; false where it is left out."""
    found = raw.get(key)
    if not isinstance(found, bool | None):
        raise DataError(f"{where}: {key!r} must be true or false")
    return bool(found)


def count(raw: Mapping[str, Any], key: str, where: str) -> int:
    """A whole number from 0 on, which protobuf's JSON writes as a string."""
    found = raw.get(key, 0)
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) <= len(str(MOST)):
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= MOST:
        raise DataError(f"{where}: {key!r} must be a whole number from 0 on")
    return found


def probability(value: Any, name: str, where: str) -> float:
    """A probability, which is that of ``name``."""
    endless = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or endless:
        raise DataError(f"{where}: the score of {name} is no number")
    if not 0 <= value <= 1:
        raise DataError(f"{where}: the score of {name} lies outside of 0 to 1; calibrated probabilities are wanted")
    return float(value)


def probabilities(raw: Any, where: str) -> dict[str, float]:
    """Probabilities by name."""
    if not isinstance(raw, dict) or not all(map(_is_text, raw)):
        raise DataError(f"{where}: scores of labels must be an object")
    return {name: probability(value, name, where) for name, value in raw.items()}


def _is_text(value: object) -> bool:
    """Whether it is a string that can be written again: half a surrogate pair, which JSON allows, cannot."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
