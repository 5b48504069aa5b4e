"""``cascade policy``: shows, validates and compares policies, and changes those of a running server."""

from __future__ import annotations

import sys
import tomllib
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.options import Json, Server

if TYPE_CHECKING:
    from cascade.policy import Policy

DEFAULT = "default"

SERVER = "server"
ADDRESS = "127.0.0.1:50051"

PolicyArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help='Policy file, "default" or "comments" for one that comes with the models, "server" for the one that a '
        'server applies by default, or "server:NAME" for another one of it.',
    ),
]
Name = Annotated[str, typer.Option(help="The policy. Default: the server's default one.", show_default=False)]

commands = typer.Typer(
    no_args_is_help=True, help="Show, validate and compare policies, and change those of a running server."
)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.add_typer(commands, name="policy")


@commands.command()
def show(policy: PolicyArgument = DEFAULT, server: Server = ADDRESS, json: Json = False) -> None:
    """Print a policy with every default written out, and its revision."""
    loaded = _load(policy, server)
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
def diff_policies(before: PolicyArgument, after: PolicyArgument, server: Server = ADDRESS, json: Json = False) -> None:
    """Print the keys whose values differ between two policies, defaults included."""
    from rich.console import Console
    from rich.table import Table

    from cascade.policy import diff

    changes = diff(_load(before, server), _load(after, server))
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


@commands.command()
def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Policy file, or the name of a built-in policy.")],
    server: Server = ADDRESS,
    expected: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION",
            help="The revision that is to be replaced; another one there is left alone. Default: the current one.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Have a running server apply a policy, in the place of the one of that name or as a new one."""
    from cascade.cli.remote import policies_of
    from cascade.errors import NotFoundError
    from cascade.policy import find, load

    policy = load(find(file))
    with policies_of(server) as policies:
        before = expected
        if before is None:
            try:
                before = policies.get(policy.name).revision
            except NotFoundError:
                before = ""
        _changed(policy.name, before, policies.push(policy, before), json)


@commands.command()
def revisions(name: Name = "", server: Server = ADDRESS, json: Json = False) -> None:
    """List the revisions of a policy that a running server keeps, newest first."""
    from rich.console import Console
    from rich.table import Table

    from cascade.cli.remote import policies_of

    with policies_of(server) as policies:
        found: list[dict[str, Any]] = [
            {
                "name": kept.policy.name,
                "revision": kept.policy.revision,
                "appliedAt": kept.applied_at.ToJsonString(),
                "current": kept.current,
            }
            for kept in policies.revisions(name)
        ]
    if json:
        print(dumps(found))
        return
    table = Table("policy", "revision", "first applied", "")
    for row in found:
        table.add_row(row["name"], row["revision"], row["appliedAt"], "current" if row["current"] else "")
    Console(markup=False).print(table)


@commands.command()
def rollback(
    revision: Annotated[str, typer.Argument(metavar="REVISION", help="The revision that shall be applied again.")],
    name: Name = "",
    server: Server = ADDRESS,
    json: Json = False,
) -> None:
    """Have a running server apply an earlier revision of a policy again."""
    from cascade.cli.remote import policies_of

    with policies_of(server) as policies:
        before = policies.get(name)
        _changed(before.name, before.revision, policies.roll_back(name, revision, before.revision), json)


def _changed(name: str, before: str, after: str, json: bool) -> None:
    if json:
        print(dumps({"name": name, "before": before, "revision": after}))
    else:
        print(f"{name}: {before or 'new'} -> {after}")


def _load(policy: str, server: str = ADDRESS) -> Policy:
    from cascade.cli.remote import policies_of
    from cascade.policy import find, load

    kind, _, name = policy.partition(":")
    if kind == SERVER:
        with policies_of(server) as policies:
            return policies.get(name)
    return load(find(Path(policy)))
