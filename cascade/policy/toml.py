"""Writes the canonical TOML of a policy.

Not left to a library: a policy's revision is a hash of these bytes, which must not change when a library changes its
mind about blank lines or quotes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

Scalar = str | int | float | bool


def to_toml(tree: Mapping[str, object]) -> str:
    """A tree of tables, lists, strings, numbers and truth values as TOML, in its own order; empty tables are left out.

    Raises:
        TypeError: a value is none of these. This is a bug.
    """
    return "\n".join(_table((), tree)).strip() + "\n"


def _table(path: tuple[str, ...], tree: Mapping[str, object]) -> Iterator[str]:
    scalars = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    if scalars and path:
        yield f"\n[{'.'.join(path)}]"
    for key, value in scalars.items():
        yield f"{key} = {_scalar(value)}"
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _table((*path, key), value)


def _scalar(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} has no place in a policy")
