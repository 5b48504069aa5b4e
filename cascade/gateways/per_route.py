"""What an operator of Envoy has chosen for a route: *metadata of the filter's call* -> a policy, and a mode.

Envoy sends what its configuration says (``initial_metadata`` of a filter's ``grpc_service``, ``grpc_initial_metadata``
or ``context_extensions`` of a route). Headers of its clients come inside the messages, and choose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascade.errors import InvalidRequestError
from cascade.serve.identity import POLICY_KEY, Call

MODE_KEY = "x-cascade-mode"
ENFORCING = {"block": True, "headers": False}
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class PerRoute:
    """How what comes by a route is judged.

    Attributes:
        policy: its name; empty for the server's default.
        enforce: what the policy blocks is refused; otherwise its verdict is only told.
    """

    policy: str
    enforce: bool


def per_route(call: Call, extensions: Mapping[str, str] = NOTHING, *, enforce: bool) -> PerRoute:
    """What was chosen for a call, by ``extensions`` or else by its metadata; ``enforce`` is the server's own mode.

    Raises:
        InvalidRequestError: there is no such mode.
    """
    chosen = {**call.chosen, **extensions}
    mode = chosen.get(MODE_KEY)
    if mode is not None and mode not in ENFORCING:
        raise InvalidRequestError(f"{MODE_KEY} is one of {', '.join(ENFORCING)}", MODE_KEY)
    return PerRoute(chosen.get(POLICY_KEY, ""), enforce if mode is None else ENFORCING[mode])
