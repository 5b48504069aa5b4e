"""CascadeService: requests -> *pipeline* -> answers, one, many at once, or as they come.

In batches and streams each item has an answer or an error of its own. A fixed number of them is under way at a time: a
stream takes no further item before one of these is answered *and sent*, so HTTP/2 flow control holds back a caller that
sends faster than the server judges or than it reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import TypeVar
from uuid import uuid4

from cascade.errors import InvalidRequestError, UnavailableError, UnsupportedError
from cascade.observe.metrics import Metrics
from cascade.pipeline import Pipeline
from cascade.serve import errors
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.wire import Malformed
from cascade.v1.cascade_service_pb2 import (
    BatchCheckItem,
    BatchCheckRequest,
    BatchCheckResponse,
    CheckStreamRequest,
    CheckStreamResponse,
)
from cascade.v1.check_pb2 import Action, CheckRequest, CheckResponse, Verdict

BATCH = "cascade.v1.CascadeService/BatchCheck"
STREAM = "cascade.v1.CascadeService/CheckStream"
ITEMS_UNDER_WAY = 32  # of one batch or stream: enough to keep every core busy, too few to fill the queue alone

Item = TypeVar("Item", BatchCheckItem, CheckStreamResponse)

log = logging.getLogger(__name__)


class CheckService:
    """The methods of ``cascade.v1.CascadeService``."""

    def __init__(self, pipeline: Pipeline, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self._pipeline = pipeline
        self._max_batch = pipeline.limits.max_batch
        self._metrics = metrics
        self._lifecycle = lifecycle

    async def check(self, request: CheckRequest, deadline: float | None) -> CheckResponse:
        """Judges one content."""
        request.request_id = request.request_id or uuid4().hex
        started = perf_counter()
        response = await self._pipeline.check(request, deadline=deadline)
        # The answer goes out first: whoever waits for it need not wait for the books to be kept.
        asyncio.get_running_loop().call_soon(self._record, response, perf_counter() - started)
        return response

    def _record(self, response: CheckResponse, seconds: float) -> None:
        self._metrics.observe(response, seconds)
        _log(response)

    async def batch_check(self, request: BatchCheckRequest, deadline: float | None) -> BatchCheckResponse:
        """Judges several contents; the items stand in the order of the requests."""
        if len(request.requests) > self._max_batch:
            message = f"a batch holds at most {self._max_batch} requests, this one {len(request.requests)}"
            raise InvalidRequestError(message, "requests")
        slots = asyncio.Semaphore(ITEMS_UNDER_WAY)

        async def answer(check: CheckRequest) -> BatchCheckItem:
            async with slots:
                return await self._item(BatchCheckItem, BATCH, check, deadline)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(check)) for check in request.requests]
        return BatchCheckResponse(items=[task.result() for task in tasks])

    async def check_stream(
        self,
        requests: AsyncIterator[CheckStreamRequest | Malformed],
        send: Callable[[CheckStreamResponse], Awaitable[None]],
        deadline: float | None,
    ) -> None:
        """Judges contents as they come and sends each answer as soon as it is ready."""
        slots = asyncio.Semaphore(ITEMS_UNDER_WAY)
        turn = asyncio.Lock()  # grpc takes one write at a time

        async def answer(check: CheckRequest | Malformed) -> None:
            try:
                item = await self._item(CheckStreamResponse, STREAM, check, deadline)
                async with turn:
                    await send(item)
            finally:
                slots.release()

        cut_short = False
        async with asyncio.TaskGroup() as group:
            try:
                async with self._lifecycle.until_drain():
                    await slots.acquire()
                    async for request in requests:
                        group.create_task(answer(request if isinstance(request, Malformed) else request.request))
                        await slots.acquire()
            except TimeoutError:
                cut_short = True
        if cut_short:
            raise UnavailableError("the server is shutting down: send what was not answered to another one")

    async def moderate_stream(self, requests: object, send: object, deadline: float | None) -> None:
        """Not served yet."""
        raise UnsupportedError("ModerateStream comes with a later release; judge what is written so far with Check")

    async def _item(
        self, kind: type[Item], method: str, check: CheckRequest | Malformed, deadline: float | None
    ) -> Item:
        request_id = check.request_id or uuid4().hex
        try:
            if isinstance(check, Malformed):
                raise check.error
            check.request_id = request_id
            item = kind(request_id=request_id, response=await self.check(check, deadline))
        except Exception as error:  # noqa: BLE001 - an error ends its item only
            item = kind(request_id=request_id, error=errors.to_status(error, method=method, request_id=request_id))
        self._metrics.items.labels(method, errors.name_of(item.error.code)).inc()
        return item


def _log(response: CheckResponse) -> None:
    """An override is worth a line of its own; the rest only to who asked for debug."""
    level = logging.INFO if response.override_rule else logging.DEBUG
    if log.isEnabledFor(level):
        fields = {
            "request_id": response.request_id,
            "verdict": Verdict.Name(response.verdict),
            "action": Action.Name(response.action),
            "unsafe_probability": response.unsafe_probability,
            "escalated": response.route.escalated,
            "override_rule": response.override_rule,
            "policy_revision": response.policy_revision,
        }
        log.log(level, "checked", extra=fields)
