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

from cascade.errors import InvalidRequestError, UnavailableError
from cascade.observe.metrics import Metrics
from cascade.pipeline import Pipeline
from cascade.serve import errors
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.wire import Malformed
from cascade.streaming import Moderation
from cascade.v1.cascade_service_pb2 import (
    BatchCheckItem,
    BatchCheckRequest,
    BatchCheckResponse,
    CheckStreamRequest,
    CheckStreamResponse,
    ModerateStart,
    ModerateStreamRequest,
    ModerateStreamResponse,
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

    async def moderate_stream(
        self,
        requests: AsyncIterator[ModerateStreamRequest | Malformed],
        send: Callable[[ModerateStreamResponse], Awaitable[None]],
        deadline: float | None,
    ) -> None:
        """Judges one generation while it is written: one message is read, judged and answered before the next.

        A block ends the call, for nothing more would be shown. So does a half-closed stream: what came is judged.
        """
        started = perf_counter()
        events = aiter(requests)
        try:
            async with self._lifecycle.until_drain():
                start = _start(await anext(events, None))
        except TimeoutError:
            raise UnavailableError("the server is shutting down: open the stream at another one") from None
        moderation = Moderation(self._pipeline, start, deadline)
        state = await moderation.open()
        if state:
            await send(state)
        while not moderation.blocked:
            try:
                async with self._lifecycle.until_drain():
                    delta = _delta(await anext(events, None))
            except TimeoutError:
                if moderation.pending:
                    await send(await moderation.judge())
                message = "the server is shutting down: go on at another one, with the text so far as the first delta"
                raise UnavailableError(message) from None
            state = await (moderation.finish() if delta is None else moderation.add(delta))
            if state:
                await send(state)
            if delta is None:
                break
        if state:
            self._record(state.verdict, perf_counter() - started)

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


def _start(message: ModerateStreamRequest | Malformed | None) -> ModerateStart:
    """The start that must open a moderated generation."""
    if isinstance(message, Malformed):
        raise message.error
    if message is None or message.WhichOneof("event") != "start":
        raise InvalidRequestError("the first message of the stream must be a start", "start")
    return message.start


def _delta(message: ModerateStreamRequest | Malformed | None) -> str | None:
    """The text of a message, None at the end of the generation."""
    if isinstance(message, Malformed):
        raise message.error
    kind = "end" if message is None else message.WhichOneof("event")
    if message is None or kind == "end":
        return None
    if kind != "delta":
        what = "a second start" if kind else "a message without an event"
        raise InvalidRequestError(f"{what}: after the start come deltas and, last, an end", kind or "event")
    return message.delta


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
