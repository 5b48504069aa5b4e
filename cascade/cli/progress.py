"""A progress bar on stderr, so that stdout stays the command's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def rows_bar(total: int) -> Iterator[Callable[[object], None]]:
    """A bar over rows, none where there are no rows; yields what is called after each."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(*Progress.get_default_columns(), console=Console(stderr=True), disable=total == 0) as bar:
        task = bar.add_task("rows", total=total)
        yield lambda row: bar.advance(task)
