"""PolicyService: what is applied, whether a policy would be, and how another one, or an earlier one, gets applied."""

from __future__ import annotations

from cascade.build import check_policies
from cascade.errors import InvalidRequestError, LimitExceededError, PolicyError, PreconditionError
from cascade.live import Live
from cascade.policy import model as policies
from cascade.policy import parse
from cascade.serve.coordinator import Control
from cascade.serve.identity import Call
from cascade.v1.policy_service_pb2 import (
    GetPolicyRequest,
    GetPolicyResponse,
    ListPolicyRevisionsRequest,
    ListPolicyRevisionsResponse,
    Policy,
    PolicyRevision,
    RollbackPolicyRequest,
    RollbackPolicyResponse,
    UpdatePolicyRequest,
    UpdatePolicyResponse,
    ValidatePolicyRequest,
    ValidatePolicyResponse,
)

MAX_TOML_BYTES = 100_000  # a full policy has about 3,000; a parser's time on the event loop is everybody's
PAGE = 100


class PolicyService:
    """The methods of ``cascade.v1.PolicyService``."""

    def __init__(self, live: Live, control: Control) -> None:
        self._live = live
        self._control = control

    async def get_policy(self, request: GetPolicyRequest, call: Call) -> GetPolicyResponse:
        """Returns a policy as it is applied."""
        return GetPolicyResponse(policy=_message(self._live.pipeline.policies.get(request.name)))

    async def validate_policy(self, request: ValidatePolicyRequest, call: Call) -> ValidatePolicyResponse:
        """Says what is wrong with a policy, or the revision that it would get."""
        _check_size(request.toml)
        stages = {name: batcher.stage for name, batcher in self._live.pipeline.stages.items()}
        try:
            policy = parse(request.toml)
            check_policies([policy], stages)
        except PolicyError as error:
            return ValidatePolicyResponse(valid=False, problems=error.problems)
        return ValidatePolicyResponse(valid=True, revision=policy.revision)

    async def update_policy(self, request: UpdatePolicyRequest, call: Call) -> UpdatePolicyResponse:
        """Applies a policy in the place of the expected revision; every later request is judged by it."""
        _check_size(request.toml)
        policy = await self._control.update_policy(request.toml, request.expected_revision)
        return UpdatePolicyResponse(policy=_message(policy))

    async def list_policy_revisions(
        self, request: ListPolicyRevisionsRequest, call: Call
    ) -> ListPolicyRevisionsResponse:
        """Lists the kept revisions, newest first; a page's token is the last revision on it."""
        if request.page_size < 0:
            raise InvalidRequestError("page_size must not be negative", "page_size")
        history = await self._control.history(request.name)
        newest = sorted(history.revisions, key=lambda kept: kept.applied_at, reverse=True)
        if request.page_token:
            before = [index for index, kept in enumerate(newest) if kept.policy.revision == request.page_token]
            if not before:
                raise InvalidRequestError("page_token is not one of this server's, or not any more", "page_token")
            newest = newest[before[0] + 1 :]
        size = min(request.page_size or PAGE, PAGE)
        page = ListPolicyRevisionsResponse(next_page_token=newest[size - 1].policy.revision if newest[size:] else "")
        for kept in newest[:size]:
            current = kept.policy.revision == history.current
            page.revisions.append(
                PolicyRevision(policy=_message(kept.policy), applied_at=kept.applied_at, current=current)
            )
        return page

    async def rollback_policy(self, request: RollbackPolicyRequest, call: Call) -> RollbackPolicyResponse:
        """Applies an earlier revision again."""
        try:
            policy = await self._control.roll_back_policy(request.name, request.revision, request.expected_revision)
        except PolicyError as error:  # it was fine once: no field of this request is at fault
            raise PreconditionError(str(error)) from error
        return RollbackPolicyResponse(policy=_message(policy))


def _check_size(toml: str) -> None:
    if len(toml.encode()) > MAX_TOML_BYTES:
        raise LimitExceededError("bytes of policy", MAX_TOML_BYTES)


def _message(policy: policies.Policy) -> Policy:
    return Policy(name=policy.name, revision=policy.revision, toml=policy.toml)
