"""PolicyService: what is applied, and whether a policy would be. Changing one comes with a later release."""

from __future__ import annotations

from collections.abc import Mapping

from cascade.errors import LimitExceededError, PolicyError, UnsupportedError
from cascade.policy import PolicyStore, check_models, parse
from cascade.v1.policy_service_pb2 import (
    GetPolicyRequest,
    GetPolicyResponse,
    Policy,
    ValidatePolicyRequest,
    ValidatePolicyResponse,
)

MAX_TOML_BYTES = 100_000  # a full policy has about 3,000; a parser's time on the event loop is everybody's
FIXED = "policies are fixed while this release of the server runs: restart it with --policy FILE"


class PolicyService:
    """The methods of ``cascade.v1.PolicyService``. ``files`` has each loaded stage's hashes by path."""

    def __init__(self, policies: PolicyStore, files: Mapping[str, Mapping[str, str]]) -> None:
        self._policies = policies
        self._files = files

    async def get_policy(self, request: GetPolicyRequest, deadline: float | None) -> GetPolicyResponse:
        """Returns a policy as it is applied."""
        policy = self._policies.get(request.name)
        return GetPolicyResponse(policy=Policy(name=policy.name, revision=policy.revision, toml=policy.toml))

    async def validate_policy(self, request: ValidatePolicyRequest, deadline: float | None) -> ValidatePolicyResponse:
        """Says what is wrong with a policy, or the revision that it would get."""
        if len(request.toml.encode()) > MAX_TOML_BYTES:
            raise LimitExceededError("bytes of policy", MAX_TOML_BYTES)
        try:
            policy = parse(request.toml)
            check_models(policy, self._files)
        except PolicyError as error:
            return ValidatePolicyResponse(valid=False, problems=error.problems)
        return ValidatePolicyResponse(valid=True, revision=policy.revision)

    async def update_policy(self, request: object, deadline: float | None) -> None:
        """Not served yet."""
        raise UnsupportedError(FIXED)

    async def list_policy_revisions(self, request: object, deadline: float | None) -> None:
        """Not served yet."""
        raise UnsupportedError(FIXED)

    async def rollback_policy(self, request: object, deadline: float | None) -> None:
        """Not served yet."""
        raise UnsupportedError(FIXED)
