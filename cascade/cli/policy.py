"""``cascade policy``: shows, validates and compares policy files."""

from __future__ import annotations

import sys
import tomllib
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.options import Json

if TYPE_CHECKING:
    from cascade.policy import Policy

DEFAULT = "default"

PolicyArgument = Annotated[
    str, typer.Argument(metavar="FILE", help='Policy file, or "default" for the one that comes with the models.')
]

commands = typer.Typer(no_args_is_help=True, help="Show, validate and compare policy files.")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.add_typer(commands, name="policy")


@commands.command()
def show(policy: PolicyArgument = DEFAULT, json: Json = False) -> None:
    """Print a policy with every default written out, and its revision."""
    loaded = _load(policy)
    if json:
        policy_tables = tomllib.loads(loaded.toml)
        print(dumps({"name": loaded.name, "revision": loaded.revision, "policy": policy_tables}))
    else:
        print(f"# revision {loaded.revision}\n{loaded.toml}", end="")


@commands.command()
def validate(policy: PolicyArgument, json: Json = False) -> None:
    """Say whether a policy would be accepted, with a line for each fault; exit code 1 if not."""
    from cascade.errors import PolicyError

    revision, problems = "", []
    try:
        revision = _load(policy).revision
    except PolicyError as error:
        problems = error.problems
    if json:
        print(dumps({"valid": not problems, "problems": problems, "revision": revision}))
    elif problems:
        print("\n".join(problems), file=sys.stderr)
    else:
        print(f"valid, revision {revision}")
    if problems:
        raise typer.Exit(1)


@commands.command("diff")
def diff_policies(before: PolicyArgument, after: PolicyArgument, json: Json = False) -> None:
    """Print the keys whose values differ between two policies, defaults included."""
    from rich.console import Console
    from rich.table import Table

    from cascade.policy import diff

    changes = diff(_load(before), _load(after))
    if json:
        print(dumps([change._asdict() for change in changes]))
        return
    if not changes:
        print("no difference")
        return
    table = Table("key", before, after)
    for change in changes:
        table.add_row(change.key, *("–" if value is None else str(value) for value in (change.before, change.after)))
    Console(markup=False).print(table)


def _load(policy: str) -> Policy:
    from cascade.policy import default_policy, load

    return default_policy() if policy == DEFAULT else load(Path(policy))
