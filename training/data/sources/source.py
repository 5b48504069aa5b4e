"""What a published set is: where its files lie, under which licence, and how one of its records becomes rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from training.data.rows import DataError, Row

_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


@dataclass(frozen=True)
class Record:
    """One record of a published file; ``where`` names file and number. CSV gives strings, the other formats values.

    Every method raises DataError, which names place and key and never the value: it may be somebody's text.
    """

    values: Mapping[str, Any]
    where: str

    def text(self, *keys: str) -> str:
        """The string under the first of the keys that is there; empty where it is null."""
        value = self.values[self._present(*keys)]
        if not isinstance(value, str | None):
            raise DataError(f"{self.where}: '{keys[0]}' must be a string")
        return value or ""

    def number(self, *keys: str) -> float:
        """The number under the first of the keys that is there."""
        key = self._present(*keys)
        try:
            return float(self.values[key])
        except (TypeError, ValueError):
            raise DataError(f"{self.where}: '{key}' must be a number") from None

    def flag(self, key: str) -> bool:
        """True or false, in whichever spelling."""
        value = str(self.values[self._present(key)]).strip().lower()
        if value not in _TRUE | _FALSE:
            raise DataError(f"{self.where}: '{key}' must be true or false")
        return value in _TRUE

    def verdict(self, key: str, unsafe: str, safe: str) -> int | None:
        """1 or 0 by the two words that the set uses, None where the label is null or empty."""
        value = self.text(key).strip().lower()
        if value not in (unsafe, safe, ""):
            raise DataError(f"{self.where}: '{key}' must be {unsafe}, {safe} or null")
        return None if not value else int(value == unsafe)

    def has(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return self.values.get(key) not in (None, "")

    def _present(self, *keys: str) -> str:
        for key in keys:
            if key in self.values:
                return key
        raise DataError(f"{self.where}: no '{keys[0]}'")


@dataclass(frozen=True)
class Source:
    """A published set.

    Attributes:
        name: what the names of its sets begin with; its label map goes by it.
        hub: the id of its data set on the hub.
        files: split -> the files of the hub's repository, as glob patterns.
        licence: the licence of the set, and ``licence_class``: permissive, non-commercial, copyleft or unknown.
        convert: the rows of a record; none where the set itself withholds the text.
    """

    name: str
    hub: str
    files: Mapping[str, tuple[str, ...]]
    licence: str
    licence_class: str
    convert: Callable[[Record], Iterator[Row]]


def content_id(name: str, *texts: str) -> str:
    """An id for a record that has none, the same wherever the record stands."""
    return f"{name}-{hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:16]}"
