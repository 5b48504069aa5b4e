"""Who calls and what they may: an :class:`Identity` for each connection's calls, and the :class:`Call` methods get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from grpc.aio import ServicerContext

Context = ServicerContext[Any, Any]
CHOICES = "x-cascade-"  # how metadata begin that say how a call is to be judged
POLICY_KEY = CHOICES + "policy"


class Scope(StrEnum):
    """What a caller may be allowed."""

    CHECK = "check"  # have texts judged and scored
    POLICY = "policy"  # read, try, change and roll back policies
    ADMIN = "admin"  # everything


EVERY_SCOPE = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a caller may ask for: contents a second, and contents a day (UTC). None is no bound of its own."""

    rate: float | None = None
    daily: int | None = None


UNBOUNDED = Quota()


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller: its name (a token's, a certificate's, or the address that it calls from) and what it may."""

    name: str
    scopes: frozenset[Scope] = EVERY_SCOPE
    quota: Quota = UNBOUNDED

    def may(self, scope: Scope | None) -> bool:
        """Whether it may do what needs this scope; None needs nothing."""
        return scope is None or scope in self.scopes or Scope.ADMIN in self.scopes


@dataclass(frozen=True, slots=True)
class Call:
    """What the server knows of one call.

    Attributes:
        deadline: a time of the event loop's clock; None if the caller set none.
        caller: the :class:`Identity`'s name.
        scopes: what the caller may.
        quota: how much it may.
        peer: the address that the call came from, without the port.
        chosen: what its metadata say under names that begin with :data:`CHOICES`.
    """

    deadline: float | None = None
    caller: str = ""
    scopes: frozenset[Scope] = EVERY_SCOPE
    quota: Quota = UNBOUNDED
    peer: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)


def chosen(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """What metadata say under names that begin with :data:`CHOICES`; of what is said twice, both, as HTTP has it."""
    found: dict[str, str] = {}
    for key, value in metadata:
        if key.startswith(CHOICES) and isinstance(value, str):
            found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def address_of(peer: str) -> str:
    """A peer without its port: ``"ipv4:10.0.0.7:41952"`` -> ``"10.0.0.7"``, and ``"unix:"`` of one on this machine."""
    kind, _, rest = unquote(peer).partition(":")
    if kind in ("ipv4", "ipv6"):
        return rest.rpartition(":")[0].strip("[]")
    return f"{kind}:"
