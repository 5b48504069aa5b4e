"""What others published of the very rows that were measured here, from ``peers.toml``; of other rows nothing."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import Any


def published(name: str, cohort: str, rows: int, hashes: Collection[str] = ()) -> list[dict[str, Any]]:
    """The figures of a cohort, by where they come from: ``{metric, source, known_file, peers {name: value}}``.

    ``known_file`` tells that the set is the file that is known to hold these rows. Without it only its name and the
    number of its rows speak for that.

    Args:
        name: of the set; a published set's name is a beginning of it.
        cohort: of the set.
        rows: how many the cohort has: published of another number, it is another cohort.
        hashes: SHA-256 of the set's files.
    """
    return [
        {
            "metric": entry["metric"],
            "source": entry["source"],
            "known_file": entry.get("sha256") in hashes,
            "peers": dict(entry["peers"]),
        }
        for entry in _entries()
        if name.startswith(entry["set"]) and cohort == entry["cohort"] and rows == entry["rows"]
    ]


@cache
def _entries() -> list[dict[str, Any]]:
    text = resources.files("cascade.evaluate").joinpath("peers.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text)["cohort"]
    return entries
