"""The policies that a server applies, by name."""

from __future__ import annotations

from collections.abc import Iterable

from cascade.errors import NotFoundError
from cascade.policy.model import Policy


class PolicyStore:
    """Policies by name; the first one is the default."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        """Takes at least one policy; of two with the same name the later one counts."""
        self._policies = {policy.name: policy for policy in policies}
        self._default = next(iter(self._policies))

    def get(self, name: str = "") -> Policy:
        """The policy of that name; the default one where the name is empty.

        Raises:
            NotFoundError: there is no such policy.
        """
        try:
            return self._policies[name or self._default]
        except KeyError:
            raise NotFoundError("policy: this server has no policy of that name") from None

    def names(self) -> tuple[str, ...]:
        """All names, the default one first."""
        return tuple(self._policies)
