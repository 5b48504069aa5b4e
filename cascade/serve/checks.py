"""CascadeService: requests -> *pipeline* -> answers, one, many at once, or as they come.

In batches and streams each item has an answer or an error of its own. A fixed number of them is under way at a time: a
stream takes no further item before one of these is answered *and sent*, so HTTP/2 flow control holds back a caller that
sends faster than the server judges or than it reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar
from uuid import uuid4

from cascade import tracing
from cascade.errors import InvalidRequestError, UnavailableError
from cascade.live import Live
from cascade.observe.metrics import Metrics
from cascade.pipeline import Pipeline
from cascade.serve import errors
from cascade.serve.admission import Admission
from cascade.serve.auditing import Auditor
from cascade.serve.identity import Call
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
from cascade.v1.check_pb2 import Action, CheckRequest, CheckResponse, RouteReason, Verdict

BATCH = "cascade.v1.CascadeService/BatchCheck"
STREAM = "cascade.v1.CascadeService/CheckStream"
ITEMS_UNDER_WAY = 32  # of one batch or stream: enough to keep every core busy, too few to fill the queue alone

Item = TypeVar("Item", BatchCheckItem, CheckStreamResponse)

log = logging.getLogger(__name__)


class CheckService:
    """The methods of ``cascade.v1.CascadeService``."""

    def __init__(
        self,
        live: Live,
        metrics: Metrics,
        lifecycle: Lifecycle,
        admission: Admission,
        auditor: Auditor | None = None,
    ) -> None:
        self._live = live
        self._admission = admission
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._auditor = auditor

    async def check(self, request: CheckRequest, call: Call, *, bulk: bool = False) -> CheckResponse:
        """Judges one content."""
        with self._live.hold() as pipeline:
            return await self._judge(pipeline, request, call, bulk=bulk)

    async def _judge(
        self, pipeline: Pipeline, request: CheckRequest, call: Call, *, bulk: bool = False
    ) -> CheckResponse:
        started = perf_counter()
        with self._admission.admit(pipeline.stages, request.ByteSize(), call, bulk=bulk):
            request.request_id = request.request_id or uuid4().hex
            with tracing.child("check", cascade__request_id=request.request_id):
                response = await pipeline.check(request, deadline=call.deadline, caller=call.caller, bulk=bulk)
                if tracing.CURRENT.get():
                    tracing.note(**_outcome(response))
        # The answer goes out first: whoever waits for it need not wait for the books to be kept.
        asyncio.get_running_loop().call_soon(self.record, response, perf_counter() - started)
        return response

    def record(self, response: CheckResponse, seconds: float) -> None:
        """Counts and logs an answer."""
        self._metrics.observe(response, seconds)
        _log(response)

    async def batch_check(self, request: BatchCheckRequest, call: Call) -> BatchCheckResponse:
        """Judges several contents, all of them by the same policy and models, in the order of the requests."""
        most = self._live.pipeline.limits.max_batch
        if len(request.requests) > most:
            message = f"a batch holds at most {most} requests, this one {len(request.requests)}"
            raise InvalidRequestError(message, "requests")
        slots = asyncio.Semaphore(ITEMS_UNDER_WAY)

        async def answer(pipeline: Pipeline, check: CheckRequest) -> BatchCheckItem:
            async with slots:
                return await self._item(BatchCheckItem, BATCH, pipeline, check, call)

        with self._live.hold() as pipeline:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(answer(pipeline, check)) for check in request.requests]
        return BatchCheckResponse(items=[task.result() for task in tasks])

    async def check_stream(
        self,
        requests: AsyncIterator[CheckStreamRequest | Malformed],
        send: Callable[[CheckStreamResponse], Awaitable[None]],
        call: Call,
    ) -> None:
        """Judges contents as they come and sends each answer as soon as it is ready."""
        slots = asyncio.Semaphore(ITEMS_UNDER_WAY)
        turn = asyncio.Lock()  # grpc takes one write at a time

        async def answer(check: CheckRequest | Malformed) -> None:
            try:
                with self._live.hold() as pipeline:
                    item = await self._item(CheckStreamResponse, STREAM, pipeline, check, call)
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
        call: Call,
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
        with self.moderation(start, call) as moderation:
            await self._moderate(moderation, events, send, started)

    @contextmanager
    def moderation(self, start: ModerateStart, call: Call) -> Iterator[Moderation]:
        """One generation, if it is taken, with a pipeline that stays the same until the body ends."""
        with self._live.hold() as pipeline:
            with self._admission.admit(pipeline.stages, start.ByteSize(), call):
                pass  # only the start is refused: what is written from there on waits while the stages are busy
            yield Moderation(pipeline, start, call.deadline, call.caller)

    async def _moderate(
        self,
        moderation: Moderation,
        events: AsyncIterator[ModerateStreamRequest | Malformed],
        send: Callable[[ModerateStreamResponse], Awaitable[None]],
        started: float,
    ) -> None:
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
            self.record(state.verdict, perf_counter() - started)

    async def _item(
        self, kind: type[Item], method: str, pipeline: Pipeline, check: CheckRequest | Malformed, call: Call
    ) -> Item:
        request_id = check.request_id or uuid4().hex
        try:
            if isinstance(check, Malformed):
                raise check.error
            check.request_id = request_id
            item = kind(request_id=request_id, response=await self._judge(pipeline, check, call, bulk=True))
            if self._auditor:
                await self._auditor.record(method, call, check, item.response)
        except Exception as error:  # noqa: BLE001 - an error ends its item only
            if self._auditor:
                await self._auditor.refused(method, call, check, error, request_id)
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


def _outcome(response: CheckResponse) -> dict[str, tracing.Fact]:
    """What a trace has of an answer."""
    return {
        "cascade__verdict": Verdict.Name(response.verdict),
        "cascade__route": RouteReason.Name(response.route.reason),
        "cascade__degraded": response.degraded,
        "cascade__policy_revision": response.policy_revision,
        "cascade__tokens": response.coverage.tokens_total,
    }


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
