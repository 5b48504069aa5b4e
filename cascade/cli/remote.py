"""The policies of a running server: *address* -> calls of ``cascade.v1.PolicyService``; an error is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from cascade.errors import CascadeError, NotFoundError
from cascade.policy import Policy, parse
from cascade.v1.policy_service_pb2 import (
    GetPolicyRequest,
    ListPolicyRevisionsRequest,
    PolicyRevision,
    RollbackPolicyRequest,
    UpdatePolicyRequest,
)
from cascade.v1.policy_service_pb2_grpc import PolicyServiceStub
from stages.remote.client import open_channel
from stages.remote.place import is_place, place_of

TIMEOUT_S = 120.0  # a server that is overloaded has others to answer, too


class ServerError(CascadeError):
    """A server did not do what it was asked for, or could not be reached."""

    reason = "SERVER_REFUSED"


class Policies:
    """The policies of a server.

    Raises:
        ServerError: it cannot be reached, or refuses, in any method.
    """

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub, self._metadata = stub, metadata

    def get(self, name: str = "") -> Policy:
        """A policy as it is applied; the default one where the name is empty.

        Raises:
            NotFoundError: there is none of that name.
        """
        return parse(self._call(self._stub.GetPolicy, GetPolicyRequest(name=name)).policy.toml)

    def push(self, policy: Policy, expected_revision: str) -> str:
        """Has a policy applied; returns its revision."""
        request = UpdatePolicyRequest(toml=policy.toml, expected_revision=expected_revision)
        return str(self._call(self._stub.UpdatePolicy, request).policy.revision)

    def revisions(self, name: str) -> Iterator[PolicyRevision]:
        """The kept revisions, newest first."""
        request = ListPolicyRevisionsRequest(name=name)
        while True:
            page = self._call(self._stub.ListPolicyRevisions, request)
            yield from page.revisions
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def roll_back(self, name: str, revision: str, expected_revision: str) -> str:
        """Has an earlier revision applied again; returns it."""
        request = RollbackPolicyRequest(name=name, revision=revision, expected_revision=expected_revision)
        return str(self._call(self._stub.RollbackPolicy, request).policy.revision)

    def _call(self, method: Any, request: object) -> Any:
        try:
            return method(request, timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            kind = NotFoundError if code is grpc.StatusCode.NOT_FOUND else ServerError
            raise kind(f"{code.name}: {details}") from None


@contextmanager
def policies_of(server: str) -> Iterator[Policies]:
    """Connects to a server.

    Raises:
        ModelError: the address cannot be used, or a file that it names.
    """
    place = place_of(server if is_place(server) else f"grpc://{server}")
    with open_channel(place) as channel:
        yield Policies(PolicyServiceStub(channel), place.metadata)
