"""Turns a missing optional package into one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stages.errors import DependencyError


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Wraps imports that only an extra of the distribution brings.

    Raises:
        DependencyError: one of them is not installed; the message says how to install it.
    """
    try:
        yield
    except ImportError as error:
        raise DependencyError(
            f"{error.name or 'a package'} is missing: pip install 'safety-cascade[{extra}]'"
        ) from error
