"""Standard health (Check, Watch, List) for the server "", each service by its full name, and each stage by its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse


class HealthServicer(health.aio.HealthServicer):  # type: ignore[misc]  # the package has no types
    """Says SERVING of ``""`` and the names until ``enter_graceful_shutdown()``.

    Make it when every stage has answered a warm-up: there is no state before that.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = ("", *names)
        self._missed: dict[str, set[str]] = {}  # by name, who says that it is away

    async def start(self) -> None:
        """Sets what the base class does not know yet."""
        for name in self._names:
            await self.set(name, HealthCheckResponse.SERVING)

    async def tell(self, name: str, serving: bool, source: str = "process") -> None:
        """From now on says of a name, for instance "stage2", whether it is there; each source has to say that it is."""
        missed = self._missed.setdefault(name, set())
        (missed.discard if serving else missed.add)(source)
        await self.set(name, HealthCheckResponse.NOT_SERVING if missed else HealthCheckResponse.SERVING)

    async def List(self, request: HealthListRequest, context: Any) -> HealthListResponse:
        """Every name with its status (gRFC A90): the base class leaves it out."""
        statuses = {name: await self.Check(HealthCheckRequest(service=name), context) for name in self._names}
        return HealthListResponse(statuses=statuses)
