"""``cascade token``: makes bearer tokens for ``cascade serve --token-file``."""

from __future__ import annotations

import os
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(no_args_is_help=True, help="Make tokens for callers.")


class ScopeName(StrEnum):
    """What a token may be allowed."""

    check = "check"
    policy = "policy"
    admin = "admin"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.add_typer(commands, name="token")


@commands.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who gets it: a letter, then letters, digits, - and _.")],
    scopes: Annotated[
        list[ScopeName],
        typer.Option(help="What it may: have texts judged, change policies, or everything. Can be repeated."),
    ],
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="The most contents a second. Default: no bound.", show_default=False)
    ] = None,
    daily: Annotated[
        int | None, typer.Option(min=1, help="The most contents a day, UTC. Default: no bound.", show_default=False)
    ] = None,
    expires: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="First day, UTC, on which it is no longer taken. Default: never.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="Add the line to this file, and print the token alone. Default: print both.", show_default=False
        ),
    ] = None,
) -> None:
    """Print a new token, this once, and the line for the token file, which holds its hash alone."""
    from cascade.serve import tokens
    from cascade.serve.identity import Scope

    if not tokens.NAME.fullmatch(name):
        raise typer.BadParameter("a letter is wanted, then up to 63 letters, digits, - or _", param_hint="NAME")
    wanted = [Scope(scope.value) for scope in scopes]
    token, entry = tokens.new(wanted, rate, daily, expires.date() if expires else None)
    line = entry.line(name)
    if token_file is None:
        print(f"{token}\n{line}")
        return
    _add(token_file, name, line)
    print(token)


def _add(path: Path, name: str, line: str) -> None:
    """Adds a line to a token file, which nobody else may read."""
    from cascade.serve import tokens

    known = tokens.read(path) if path.exists() else ()
    if name in {token.identity.name for token in known}:
        raise typer.BadParameter(f"{path} has a token of that name: take the line out first", param_hint="NAME")
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+", encoding="utf-8") as file:
            before = file.read()
            file.write(line + "\n" if not before or before.endswith("\n") else f"\n{line}\n")
    except OSError as error:
        raise tokens.TokenFileError(f"{path}: {error.strerror}") from None
