"""``cascade compare``: joins reports of ``cascade eval`` into one table for each system."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.options import Json


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("compare")(compare_reports)


def compare_reports(
    reports: Annotated[
        list[Path],
        typer.Argument(metavar="REPORT...", exists=True, help="Folders that cascade eval wrote, or their report.json."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the tables to this Markdown file.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Put reports of several models side by side: a column for each, a row for each figure of each set.

    All must be of the same rows: a set that differs between two reports is an error.
    """
    from rich.console import Console
    from rich.table import Table

    from cascade.errors import CascadeError
    from cascade.evaluate.compare import compared, read_reports
    from cascade.evaluate.render import markdown_tables

    found = list(compared(read_reports(reports)))
    if out:
        try:
            out.write_text("# Comparison\n\n" + markdown_tables(found), encoding="utf-8")
        except OSError as error:
            raise CascadeError(f"{out}: {error.strerror}") from error
    if json:
        print(dumps([{"title": t.title, "columns": t.columns, "rows": t.rows} for t in found]))
        return
    console = Console(highlight=False, markup=False)
    for each in found:
        table = Table(*each.columns, title=f"\n{each.title}\n{each.note}", title_justify="left")
        for row in each.rows:
            table.add_row(*row)
        console.print(table)
