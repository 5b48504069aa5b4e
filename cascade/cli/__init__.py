"""The command ``cascade``: *arguments, environment, settings file* -> one module a command, imported when asked for.

Each module here has ``register(app)`` and keeps heavy imports inside its command, so that ``--help`` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import typer.main
from typer.core import TyperGroup

from cascade.cli import settings
from stages.errors import CascadeError

MARKUP: Literal["markdown"] = "markdown"  # the other kind takes "[metrics=HOST:PORT]" for a style
COMMANDS = (
    "serve",
    "classify",
    "scan",
    "check",
    "health",
    "models",
    "policy",
    "token",
    "tune",
    "eval",
    "compare",
    "bench",
    "train",
    "export",
    "data",
)


class Commands(TyperGroup):
    """The commands by name; a module is imported when its command is."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        part = typer.Typer(rich_markup_mode=MARKUP)
        import_module(f"cascade.cli.{cmd_name}").register(part)
        command = typer.main.get_group(part).commands[cmd_name]
        settings.name_variables(command)
        return command


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with values may show somebody's text
    add_completion=False,
    rich_markup_mode=MARKUP,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cascade {version('safety-cascade')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="CASCADE_CONFIG",
            help="Settings file, TOML: a table for each command, keys like its options; keys above the tables hold for "
            "every command that has such an option. Default: ./cascade.toml if it exists.",
            show_default=False,
        ),
    ] = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A two-stage text-safety service: a small classifier on every text, a hazard model on what needs it.

    Each option can also be set by the environment variable named beside it, and by the settings file. The command line
    comes first, then the environment, then the settings file.
    """
    context.default_map = settings.load(config, context)


def main() -> None:
    """Runs the command. Exit code 1 with one line on stderr for an expected failure, 2 for wrong usage."""
    try:
        app(prog_name="cascade")
    except CascadeError as error:
        print(f"cascade: {error}", file=sys.stderr)
        raise SystemExit(1) from None
