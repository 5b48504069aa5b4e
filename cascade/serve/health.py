"""Standard health (Check, Watch, List) for the server "", each service by its full name, and each stage by its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse

from cascade.serve.stage_host import StageHost


class HealthServicer(health.aio.HealthServicer):  # type: ignore[misc]  # the package has no types
    """Says SERVING of ``""`` and the names until ``enter_graceful_shutdown()``.

    Make it when every stage has answered a warm-up: there is no state before that.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = ("", *names)

    async def start(self) -> None:
        """Sets what the base class does not know yet."""
        for name in self._names:
            await self.set(name, HealthCheckResponse.SERVING)

    def follow(self, host: StageHost) -> None:
        """From now on says of a stage in a process of its own whether it is there. Call it on the event loop."""
        loop = asyncio.get_running_loop()

        def on_change(serving: bool) -> None:
            status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
            with suppress(RuntimeError):  # the loop was closed, and with it everybody who asked
                asyncio.run_coroutine_threadsafe(self.set(host.hosted.stage, status), loop)

        host.on_change = on_change
        if host.pid is None:  # it went away before anybody listened
            on_change(False)

    async def List(self, request: HealthListRequest, context: Any) -> HealthListResponse:
        """Every name with its status (gRFC A90): the base class leaves it out."""
        statuses = {name: await self.Check(HealthCheckRequest(service=name), context) for name in self._names}
        return HealthListResponse(statuses=statuses)
