"""One direction of an HTTP exchange at the ext_proc filter: *messages in order* -> judged -> a reply to each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from cascade.errors import CascadeError, InvalidRequestError, LimitExceededError, UnsupportedError
from cascade.gateways import ext_proc_wire as wire
from cascade.gateways.extract import MAX_BYTES
from cascade.gateways.judge import Judge
from cascade.gateways.replies import ERROR_HEADER, Refusal, blocked, headers_of, refused
from cascade.serve.identity import Call
from cascade.v1.check_pb2 import ACTION_BLOCK, CheckResponse

ASK_AFTER_S = 0.1  # half of the time that Envoy gives a reply by default: what takes longer was escalated, or waits
MORE_S = 10.0  # what is asked for then; the filter's max_message_timeout has to allow it

Send = Callable[[Any], Awaitable[None]]
Result = TypeVar("Result")


class Half:
    """The request, or its answer.

    Args:
        mode: how bodies are sent; NONE also where the filter is too old to tell.
        judge: what judges.
        send: takes the replies.
        call: for whom.
        enforce: what is to be blocked is, and nothing goes on that was not judged; otherwise verdicts are only told.

    Attributes:
        head: the headers, their names in lower case.
        answered: an answer of ours has taken the place of what was under way.
        done: this direction has been ended by us, and takes no replies any more.
    """

    side = ""

    def __init__(self, mode: int, judge: Judge, send: Send, call: Call, *, enforce: bool) -> None:
        self.head: dict[str, str] = {}
        self.answered = self.done = False
        self.mode, self.judge, self.call, self.enforce = mode, judge, call, enforce
        self.ended = self.head_waits = False
        self._send = send
        self._body = bytearray()
        self._pieces = 0
        self._given_up = False

    async def judged(self, body: bytes) -> CheckResponse | None:
        """The verdict on a whole body; None if there is no text in it.

        Raises:
            CascadeError: it cannot be judged.
        """
        raise NotImplementedError

    def unwanted(self) -> list[str]:
        """Headers that are taken away, beside ours."""
        return []

    async def take(self, what: str, message: Any) -> None:
        """Takes "headers", a piece of "body", or "trailers", and replies to it.

        Raises:
            CascadeError: the service failed, or the messages come in an order that has no meaning.
        """
        if self.done:
            return
        if self.ended and what != "trailers":
            raise InvalidRequestError(f"{self.side}_{what} came after the end", "request")
        try:
            await {"headers": self.take_head, "body": self.take_body, "trailers": self.take_trailers}[what](message)
        except CascadeError as error:
            refusal = refused(error, self.side)
            if refusal is None:
                raise
            await self.judge.refuse(error, self.call)
            await self.give_up(refusal, what)

    async def take_head(self, message: Any) -> None:
        """Headers go on at once, but where they may wait for the verdict."""
        self.head = wire.header_map(message.headers)
        self.ended = message.end_of_stream
        self.head_waits = True
        if self.mode != wire.DUPLEX or self.ended:
            await self.release_head()

    async def take_body(self, message: Any) -> None:
        """The pieces of a body are kept until there is a verdict on the whole."""
        self.ended = message.end_of_stream or self.mode in (wire.BUFFERED, wire.PARTIAL)
        self._body += message.body
        self._pieces += 1
        if self._given_up:
            await self._go_on(end=self.ended)
            return
        cut_off = self.mode == wire.PARTIAL and not message.end_of_stream
        if cut_off or len(self._body) > MAX_BYTES:
            raise LimitExceededError("bytes of body", len(message.body) if cut_off else MAX_BYTES)
        if self.ended:
            await self._conclude(end=True)
        elif self.mode != wire.DUPLEX:
            await self.show(b"")

    async def take_trailers(self, message: Any) -> None:
        """Trailers end a body that has not ended yet."""
        if not self.ended:
            self.ended = True
            if self.mode == wire.DUPLEX:
                await self._conclude(end=False)
            elif self._body:
                raise UnsupportedError("trailers behind a streamed body: use FULL_DUPLEX_STREAMED, or BUFFERED")
        if not self.answered:
            await self._send(wire.trailers_reply(self.side))

    async def give_up(self, refusal: Refusal, what: str) -> None:
        """It could not be judged: it is refused or, where nothing is enforced, goes on as it is."""
        self._given_up = True
        if self.enforce:
            await self.answer(refusal)
        elif what == "body":
            await self._go_on({ERROR_HEADER: refusal.details}, end=self.ended)
        else:
            if self.mode == wire.DUPLEX:
                await self._go_on({ERROR_HEADER: refusal.details}, end=False)
            await self._send(wire.trailers_reply(self.side))

    async def show(
        self,
        body: bytes | None,
        headers: Mapping[str, str] | None = None,
        *,
        end: bool = False,
        answer: CheckResponse | None = None,
    ) -> None:
        """Replies to a piece of the body with what may go on; None is the piece as it came."""
        if self.mode != wire.DUPLEX:
            await self._send(wire.body_reply(self.side, body, headers, answer))
        elif body or end:
            await self.release_head(headers)
            for reply in wire.streamed(self.side, body or b"", end=end, answer=answer):
                await self._send(reply)

    async def release_head(self, headers: Mapping[str, str] | None = None) -> None:
        """The headers go on, if they have not yet."""
        if self.head_waits:
            self.head_waits = False
            await self._send(wire.headers_reply(self.side, headers or {}, remove=self.unwanted()))

    async def answer(self, refusal: Refusal, answer: CheckResponse | None = None) -> None:
        """Answers in the place of what was under way."""
        self.answered = True
        await self._send(wire.immediate(refusal, self.side, answer))

    async def patiently(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Does the work; if it takes long Envoy is asked to wait, once, as it allows."""
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=ASK_AFTER_S)
            if not done and self.mode != wire.DUPLEX:  # there it waits in any case
                await self._send(wire.more_time(MORE_S))
            return await task
        finally:
            task.cancel()

    async def _conclude(self, *, end: bool) -> None:
        """The body is complete; ``end`` unless trailers follow."""
        answer = await self.patiently(self.judged(bytes(self._body)))
        if answer is not None and answer.action == ACTION_BLOCK and self.enforce:
            await self.answer(blocked(answer, self.side), answer)
        else:
            await self._go_on(headers_of(answer) if answer else {}, end=end, answer=answer)

    async def _go_on(
        self, headers: Mapping[str, str] | None = None, *, end: bool, answer: CheckResponse | None = None
    ) -> None:
        """What was kept of the body goes on."""
        body, whole = bytes(self._body), self._pieces == 1 and self.mode != wire.DUPLEX
        self._body.clear()
        await self.show(None if whole else body, headers, end=end, answer=answer)
