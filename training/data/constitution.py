"""The constitution: rules of what is harmful, each with its harmless neighbour, by hazard; read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.taxonomy import HAZARD_SLUGS
from training.data.rows import DataError

DEFAULT = Path(__file__).parents[1] / "constitution.toml"


@dataclass(frozen=True)
class Rule:
    """What is harmful, and what is most often mistaken for it."""

    harmful: str
    harmless: str


@dataclass(frozen=True)
class HazardRules:
    """The rules of one hazard; where ``harmful_examples`` is false nobody is asked to write any."""

    slug: str
    rules: tuple[Rule, ...]
    harmful_examples: bool


@dataclass(frozen=True)
class Constitution:
    """A whole constitution; ``unsafe`` and ``safe`` hold for every hazard."""

    name: str
    version: int
    unsafe: tuple[str, ...]
    safe: tuple[str, ...]
    contexts: tuple[str, ...]
    tones: tuple[str, ...]
    hazards: tuple[HazardRules, ...]


def load_constitution(path: Path | None = None) -> Constitution:
    """Reads a constitution, the project's own by default.

    Raises:
        DataError: it cannot be read, is no TOML, lacks a key, or has one that is not known; the message names it.
    """
    path = path or DEFAULT
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path.name}: {error}") from error
    _only(raw, {"name", "version", "unsafe", "safe", "contexts", "tones", "hazard"}, path.name)
    version, hazards = raw["version"], raw["hazard"]
    if not isinstance(version, int) or not isinstance(hazards, list) or not hazards:
        raise DataError(f"{path.name}: 'version' must be a whole number, 'hazard' a list of tables")
    parsed = tuple(_hazard(entry, f"{path.name}: hazard {number}") for number, entry in enumerate(hazards, 1))
    slugs = [hazard.slug for hazard in parsed]
    if len(set(slugs)) != len(slugs):
        raise DataError(f"{path.name}: a hazard has two tables")
    unsafe, safe, contexts, tones = (_lines(raw[key], f"{path.name}: '{key}'") for key in _LISTS)
    return Constitution(_line(raw["name"], f"{path.name}: 'name'"), version, unsafe, safe, contexts, tones, parsed)


_LISTS = ("unsafe", "safe", "contexts", "tones")


def _hazard(entry: Any, where: str) -> HazardRules:
    known = {"slug", "rule"}
    _only(entry, known | ({"harmful_examples"} & set(entry if isinstance(entry, dict) else ())), where)
    if entry["slug"] not in HAZARD_SLUGS:
        raise DataError(f"{where}: 'slug' must be one of {', '.join(HAZARD_SLUGS)}")
    where = f"{where}, {entry['slug']}"
    examples = entry.get("harmful_examples", True)
    if not isinstance(entry["rule"], list) or not entry["rule"] or not isinstance(examples, bool):
        raise DataError(f"{where}: 'rule' must be a list of tables, 'harmful_examples' true or false")
    rules = []
    for number, rule in enumerate(entry["rule"], 1):
        _only(rule, {"harmful", "harmless"}, f"{where}, rule {number}")
        sides = (_line(rule[side], f"{where}, rule {number}: '{side}'") for side in ("harmful", "harmless"))
        rules.append(Rule(*sides))
    return HazardRules(entry["slug"], tuple(rules), examples)


def _only(table: Any, keys: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise DataError(f"{where}: must be a table")
    if missing := sorted(keys - table.keys()):
        raise DataError(f"{where}: no '{missing[0]}'")
    if unknown := sorted(table.keys() - keys):
        raise DataError(f"{where}: unknown key '{unknown[0]}'")


def _lines(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where} must be a list of sentences")
    return tuple(_line(item, where) for item in value)


def _line(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} must be a sentence")
    return value.strip()
