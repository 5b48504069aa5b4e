"""Judges what a surface has found, as the contract's own methods do, and keeps the record of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from cascade.serve.auditing import Auditor
from cascade.serve.auditing import Generation as Records
from cascade.serve.checks import ITEMS_UNDER_WAY, CheckService
from cascade.serve.errors import to_status
from cascade.serve.identity import Call
from cascade.streaming import Moderation
from cascade.v1.cascade_service_pb2 import ModerateStart, ModerateStreamRequest, ModerateStreamResponse
from cascade.v1.check_pb2 import CheckRequest, CheckResponse


class Judge:
    """The scoring function for a method of another protocol.

    Args:
        method: its name, for records and logs.
        checks: what judges.
        auditor: keeps records; None keeps none.
        policy: under which policy; empty for the server's default.
    """

    def __init__(self, method: str, checks: CheckService, auditor: Auditor | None, policy: str = "") -> None:
        self._method, self._checks, self._auditor, self._policy = method, checks, auditor, policy

    def under(self, policy: str) -> Judge:
        """The same under another policy."""
        return Judge(self._method, self._checks, self._auditor, policy)

    async def check(self, request: CheckRequest, call: Call, *, bulk: bool = False) -> CheckResponse:
        """Judges one content.

        Raises:
            CascadeError: as :meth:`cascade.pipeline.Pipeline.check`; or it may not be asked, or leaves no record.
        """
        request.policy = self._policy
        answer = await self._checks.check(request, call, bulk=bulk)
        if self._auditor:
            await self._auditor.record(self._method, call, request, answer)
        return answer

    async def each(self, requests: Sequence[CheckRequest], call: Call) -> list[CheckResponse]:
        """Judges contents, several of them in bulk, and answers in their order. The first that fails fails all.

        Raises:
            CascadeError: as :meth:`check`.
        """
        if len(requests) == 1:
            return [await self.check(requests[0], call)]
        slots = asyncio.Semaphore(ITEMS_UNDER_WAY)

        async def answer(request: CheckRequest) -> CheckResponse:
            async with slots:
                return await self.check(request, call, bulk=True)

        tasks = [asyncio.ensure_future(answer(request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def worst(self, requests: Sequence[CheckRequest], call: Call) -> CheckResponse | None:
        """The worst of the answers, None without a request.

        Raises:
            CascadeError: as :meth:`check`.
        """
        return worst_of(await self.each(requests, call))

    @contextmanager
    def generation(self, prompt: str, call: Call) -> Iterator[Generation]:
        """One answer that is judged while it is written.

        Raises:
            OverloadedError: it may not begin now.
        """
        start = ModerateStart(prompt=prompt, policy=self._policy)
        with self._checks.moderation(start, call) as moderation:
            yield Generation(moderation, self, call, start)

    def records_of(self, call: Call, send: Callable[[ModerateStreamResponse], Awaitable[None]]) -> Records | None:
        """What keeps the records of a generation, if somebody does."""
        return self._auditor.generation(self._method, call, send) if self._auditor else None

    def count(self, answer: CheckResponse, seconds: float) -> None:
        """Counts an answer that did not come by :meth:`check`."""
        self._checks.record(answer, seconds)

    async def refuse(self, error: Exception, call: Call) -> None:
        """Logs and records that something was not judged."""
        to_status(error, method=self._method, request_id="")
        if self._auditor:
            await self._auditor.refused(self._method, call, None, error, "")


class Generation:
    """One answer while it is written. Each method is awaited before the next is called.

    Attributes:
        length: code points that were written.
        released: code points that may be shown.
        verdict: on what was read so far; None before anything was.
    """

    def __init__(self, moderation: Moderation, judge: Judge, call: Call, start: ModerateStart) -> None:
        self.length = self.released = 0
        self.verdict: CheckResponse | None = None
        self._moderation, self._judge = moderation, judge
        self._started = perf_counter()
        self._records = judge.records_of(call, self._take)
        if self._records:
            self._records.heard(ModerateStreamRequest(start=start))

    @property
    def blocked(self) -> bool:
        """It has ended badly."""
        return self._moderation.blocked

    async def open(self) -> None:
        """Judges the prompt, if there is one.

        Raises:
            CascadeError: as :meth:`cascade.streaming.Moderation.open`.
        """
        await self._tell(await self._moderation.open())

    async def add(self, delta: str) -> None:
        """Takes the next piece of text.

        Raises:
            CascadeError: as :meth:`cascade.streaming.Moderation.add`.
        """
        self.length += len(delta)
        if self._records:
            self._records.heard(ModerateStreamRequest(delta=delta))
        await self._tell(await self._moderation.add(delta))

    async def finish(self) -> None:
        """Judges what is left.

        Raises:
            CascadeError: as :meth:`cascade.streaming.Moderation.finish`.
        """
        await self._tell(await self._moderation.finish())

    async def _tell(self, state: ModerateStreamResponse | None) -> None:
        if state is None:
            return
        await (self._records.send if self._records else self._take)(state)
        if state.final:
            self._judge.count(state.verdict, perf_counter() - self._started)

    async def _take(self, state: ModerateStreamResponse) -> None:
        self.released, self.verdict = state.released_upto, state.verdict


def worst_of(answers: Iterable[CheckResponse]) -> CheckResponse | None:
    """The worst of some answers, if there are any."""
    return max(answers, key=lambda answer: (answer.action, answer.unsafe_probability), default=None)
