"""*settings file* -> defaults for every command; *option* -> its environment variable.

A key that no option answers to is refused, with where it stands: a setting that does nothing is a mistake.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

DEFAULT = Path("cascade.toml")


def load(path: Path | None, context: typer.Context) -> dict[str, Any]:
    """Reads the settings file, or ./cascade.toml if there is one, as defaults by command and option.

    Raises:
        typer.BadParameter: the file cannot be read, is no TOML, or has a key that no command knows.
    """
    if path is None:
        if not DEFAULT.is_file():
            return {}
        path = DEFAULT
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML, no number
        raise typer.BadParameter(f"{path}: {error}", param_hint="--config") from error
    unknown: list[str] = []
    defaults = _defaults(context, context.command, {}, tree, "", unknown)
    if unknown:
        raise typer.BadParameter(f"{path}: no option is called {', '.join(unknown)}", param_hint="--config")
    return defaults


def name_variables(command: Any) -> None:
    """Gives each option of a command, and of its subcommands, the environment variable ``CASCADE_<OPTION>``."""
    for key, option in _options(command).items():
        if option.envvar is None:
            option.envvar = f"CASCADE_{key.upper()}"
    if isinstance(command, TyperGroup):
        for subcommand in command.commands.values():
            name_variables(subcommand)


def _defaults(
    context: typer.Context, command: Any, above: dict[str, Any], table: dict[str, Any], where: str, unknown: list[str]
) -> dict[str, Any]:
    """The defaults of one command: its own table over the keys of the tables above, as far as it has such options.

    Keys that nothing answers to are added to ``unknown`` by their full path.
    """
    table = {key.replace("-", "_"): value for key, value in table.items()}
    if not isinstance(command, TyperGroup):
        options = _options(command)
        unknown += [f"{where}{key}" for key in sorted(table.keys() - options.keys())]
        return {str(options[key].name): value for key, value in (above | table).items() if key in options}
    # By kind, not by name alone: `policy = "x.toml"` sets an option of that name, `[policy]` is the command's table.
    keys = {key: value for key, value in table.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    subcommands = {name: command.get_command(context, name) for name in command.list_commands(context)}
    unknown += [f"{where}{key}" for key in keys if not any(_has(sub, key) for sub in subcommands.values())]
    unknown += [f"{where}{key}" for key in tables if key not in subcommands]
    return {
        name: _defaults(context, subcommand, above | keys, tables.get(name, {}), f"{where}{name}.", unknown)
        for name, subcommand in subcommands.items()
    }


def _has(command: Any, key: str) -> bool:
    """The command, or a subcommand of it, has such an option."""
    subcommands = command.commands.values() if isinstance(command, TyperGroup) else ()
    return key in _options(command) or any(_has(subcommand, key) for subcommand in subcommands)


def _options(command: Any) -> dict[str, TyperOption]:
    """A command's options by their settings keys: the long flag's name, for instance ``max_queue`` of --max-queue."""
    options = [param for param in command.params if isinstance(param, TyperOption)]
    flags = [next((flag for flag in option.opts if flag.startswith("--")), str(option.name)) for option in options]
    return {flag.removeprefix("--").replace("-", "_"): option for flag, option in zip(flags, options, strict=True)}
