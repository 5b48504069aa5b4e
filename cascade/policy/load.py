"""Reads policies: *TOML* -> tables -> :class:`~cascade.policy.model.Policy`, or a list of everything that is wrong."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from cascade.errors import PolicyError
from cascade.policy.model import Policy

Scalar = str | int | float | bool
BUILT_IN = ("default", "comments")  # policies that come with the embedded models: for prompts, for readers' comments


class Change(NamedTuple):
    """One key that differs: its dotted path and its values, None where a side does not have it."""

    key: str
    before: Scalar | None
    after: Scalar | None


def load(path: Path) -> Policy:
    """Reads a policy file.

    Raises:
        PolicyError: the file cannot be read, is no TOML, or is no valid policy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError([f"{path} cannot be read: {error}"]) from error
    return parse(text)


def parse(toml: str) -> Policy:
    """Reads a policy from TOML.

    Raises:
        PolicyError: it is no TOML, or no valid policy; ``problems`` has a line for each fault.
    """
    try:
        return Policy.model_validate(tomllib.loads(toml))
    except ValidationError as error:
        raise PolicyError(_problems(error)) from error
    except ValueError as error:  # that of TOML, or a number with more digits than Python reads
        raise PolicyError([f"no TOML: {error}"]) from error
    except RecursionError:
        raise PolicyError(["no TOML: nested too deeply"]) from None


def built_in(name: str) -> Path:
    """The file of a policy that comes with the embedded models."""
    return Path(str(resources.files("cascade.policy").joinpath(f"{name}.toml")))


def find(given: Path) -> Path:
    """A policy's file: that of a built-in policy by its name, unless there is such a file, else what was given."""
    return built_in(str(given)) if str(given) in BUILT_IN and not given.exists() else given


def default_policy() -> Policy:
    """The policy that comes with the embedded models."""
    return load(built_in("default"))


def default_fitted_on() -> tuple[str, ...]:
    """NAME@REVISION of the models that the default policy was fitted on, as its first line says."""
    return tuple(re.findall(r"[\w.-]+@\w+", built_in("default").read_text(encoding="utf-8").partition("\n")[0]))


def diff(before: Policy, after: Policy) -> list[Change]:
    """The keys whose values differ, defaults written out, in alphabetical order."""
    old, new = _flat(before.model_dump(by_alias=True)), _flat(after.model_dump(by_alias=True))
    keys = sorted(old.keys() | new.keys())  # a table that only one side has, say a certificate, has keys of its own
    return [Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _flat(tree: dict[str, object], path: str = "") -> dict[str, Scalar | None]:
    flat: dict[str, Scalar | None] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{path}{key}.")
        elif value is None or isinstance(value, str | int | float | bool):
            flat[path + key] = value
        elif isinstance(value, list):
            continue  # the numbers of a network: its hash, which stands beside them, tells whether they differ
        else:
            raise TypeError(f"{type(value).__name__} has no place in a policy. This is a bug.")
    return flat


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(str(step) for step in fault["loc"])
        message = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
        lines += [f"{where}: {line}" if where else line for line in message.splitlines()]
    return lines
