"""What the commands share that promise something: the options, and the policy that is started from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from cascade.policy import Policy
    from cascade.tune.wishes import Wish

_SHARE = "A share from 0 to 1, or HAZARD=SHARE for one hazard; can be repeated"

MaxEscalation = Annotated[
    float | None,
    typer.Option(help="Promise: at most this share of all texts goes on to stage 2, audits too.", show_default=False),
]
MaxMissedUnsafe = Annotated[
    list[str] | None,
    typer.Option(
        help="Promise: at most this share of the unsafe texts gets another verdict than UNSAFE; for a hazard, of "
        f"the texts that carry it, is not flagged with it. {_SHARE}.",
        show_default=False,
    ),
]
MaxFalsePositive = Annotated[
    list[str] | None,
    typer.Option(
        help="Promise: at most this share of the harmless texts gets the verdict UNSAFE; for a hazard, is flagged "
        f"with it. {_SHARE}.",
        show_default=False,
    ),
]
Delta = Annotated[
    float,
    typer.Option(min=1e-6, max=0.5, help="Probability, over the draw of the rows, that any promise may be broken."),
]
Router = Annotated[
    Literal["band", "margin", "delegation"] | None,
    typer.Option(
        help="Kind of router that is tuned. Margins are fitted on the half that is searched; a delegation router's "
        "network is that of --policy, by `python -m training.fit_delegation`. Default: the kind of --policy.",
        show_default=False,
    ),
]


def wishes_of(
    escalation: float | None, missed: Sequence[str] | None, false_positive: Sequence[str] | None
) -> tuple[Wish, ...]:
    """The wishes.

    Raises:
        BadParameter: one of them makes no sense, or there is none.
    """
    from cascade.tune.wishes import WishError, parse_wishes

    try:
        return parse_wishes(escalation, missed or (), false_positive or ())
    except WishError as error:
        raise typer.BadParameter(str(error)) from error


def base_policy(policy: Path | None, router: Router) -> Policy:
    """The policy of which all stays that is not tuned, with the kind of router that is asked for.

    Raises:
        PolicyError: it is invalid, or has no network for the router.
    """
    from cascade.policy import default_policy, load
    from cascade.tune.routing import with_kind

    base = default_policy() if policy is None else load(policy)
    return base if router is None else with_kind(base, router)
