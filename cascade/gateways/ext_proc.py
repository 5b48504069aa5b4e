"""Envoy's external processing filter, v3: *headers, bodies* of a request and its answer -> judged -> passed on or not.

One stream is one HTTP request with its answer. In every mode of sending bodies nothing goes on before it was judged:

    BUFFERED               the body is judged at once; the verdict is in headers
    STREAMED               all pieces but the last go on empty, and the last one as the whole body
    FULL_DUPLEX_STREAMED   headers and body wait until the body is judged
    BUFFERED_PARTIAL       as BUFFERED; what was cut off is refused

Server-sent events of a streamed answer go on as the moderation of a stream releases them. What the policy blocks is
answered with 403 and a typed body; a stream of events that has begun ends with an event that says so. Failures of the
service itself end the gRPC stream, so that the filter's ``failure_mode_allow`` decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from cascade.errors import InvalidRequestError, UnsupportedError
from cascade.gateways import ext_proc_wire as wire
from cascade.gateways import sse
from cascade.gateways.ext_proc_half import Half, Send
from cascade.gateways.extract import content_type, prompt_of, read, read_request, read_response
from cascade.gateways.judge import Judge, worst_of
from cascade.gateways.moderated import ModeratedEvents
from cascade.gateways.per_route import per_route
from cascade.gateways.replies import Refusal, blocked
from cascade.serve.auditing import Auditor
from cascade.serve.checks import CheckService
from cascade.serve.identity import Call
from cascade.serve.wire import Malformed
from cascade.v1.check_pb2 import CheckRequest, CheckResponse

METHOD = "envoy.service.ext_proc.v3.ExternalProcessor/Process"


class ExternalProcessor:
    """The method of ``envoy.service.ext_proc.v3.ExternalProcessor``.

    Args:
        checks: what judges.
        auditor: keeps records; None keeps none.
        enforce: as :class:`~cascade.gateways.ext_proc_half.Half`; a route may say otherwise.
    """

    def __init__(self, checks: CheckService, auditor: Auditor | None, *, enforce: bool = True) -> None:
        self._judge, self._enforce = Judge(METHOD, checks, auditor), enforce

    async def process(self, requests: AsyncIterator[Any], send: Send, call: Call) -> None:
        """Judges one HTTP request and its answer.

        Raises:
            CascadeError: the service failed, the route asks for what is not there, or the messages' order is none.
        """
        with ExitStack() as stack:
            halves: dict[str, Half] = {}
            async for message in requests:
                if isinstance(message, Malformed):
                    raise message.error
                if not halves:
                    tell = _silent if message.observability_mode else send
                    halves = self._halves(message.protocol_config, tell, call, stack)
                side, _, what = (message.WhichOneof("request") or "").partition("_")
                if side not in halves:
                    raise InvalidRequestError("a message holds neither headers nor a body nor trailers", "request")
                await halves[side].take(what, getattr(message, f"{side}_{what}"))
                if halves[side].answered:
                    return

    def _halves(self, config: Any, send: Send, call: Call, stack: ExitStack) -> dict[str, Half]:
        modes = (config.request_body_mode, config.response_body_mode)
        if wire.GRPC in modes:
            raise UnsupportedError("bodies of gRPC messages cannot be judged: call Cascade's own service")
        route = per_route(call, enforce=self._enforce)
        judge = self._judge.under(route.policy)
        request = RequestHalf(modes[0], judge, send, call, enforce=route.enforce)
        request.plain_answers = modes[1] != wire.NONE
        response = ResponseHalf(modes[1], judge, send, call, enforce=route.enforce)
        response.request, response.stack = request, stack
        return {"request": request, "response": response}


class RequestHalf(Half):
    """The request.

    Attributes:
        content: what was judged of it.
        plain_answers: its answer is to come in a form that can be read.
    """

    side = "request"
    content: CheckRequest | None = None
    plain_answers = False

    def unwanted(self) -> list[str]:
        """See :class:`Half`."""
        return ["accept-encoding"] if self.plain_answers else []

    async def judged(self, body: bytes) -> CheckResponse | None:
        """See :class:`Half`."""
        self.content = await read(read_request, body, self.head)
        return await self.judge.check(self.content, self.call) if self.content else None


class ResponseHalf(Half):
    """The answer, which is judged together with what it answers.

    Attributes:
        request: the other half.
        stack: closes what was opened when the exchange is over.
    """

    side = "response"
    request: RequestHalf
    stack: ExitStack
    _events: ModeratedEvents | None = None
    _piece = b""
    _over = False  # no event goes on any more or, where nothing is enforced, none is judged

    async def judged(self, body: bytes) -> CheckResponse | None:
        """See :class:`Half`."""
        found = await read(read_response, body, self.head, prompt_of(self.request.content))
        return worst_of(await self.judge.each(found, self.call)) if found else None

    async def take_body(self, message: Any) -> None:
        """Events are judged while they come, any other body when it is complete."""
        if not self._streams:
            await super().take_body(message)
            return
        self.ended, self._piece = message.end_of_stream, message.body
        if self._over:
            await self._move_on(b"")
            return
        events = self._open()
        shown = await self.patiently(_moved(events, message.body, end=self.ended))
        if events.blocked or (self.ended and events.held):
            assert events.verdict is not None, "something was judged"
            await self._cut_off(shown, blocked(events.verdict, self.side), events.verdict)
        else:
            await self._move_on(shown, events.verdict if self.ended else None)

    async def take_trailers(self, message: Any) -> None:
        """See :class:`Half`."""
        if self._events and not self.ended and not self._over:
            shown = await self.patiently(self._events.end())
            if self.mode != wire.DUPLEX and (shown or self._events.held):
                raise UnsupportedError("trailers behind streamed events: use FULL_DUPLEX_STREAMED")
            self._piece = b""
            if self._events.held:
                assert self._events.verdict is not None, "something was judged"
                await self._cut_off(shown, blocked(self._events.verdict, self.side), self._events.verdict)
                return
            await self._move_on(shown, self._events.verdict)
        self.ended = self.ended or self._streams
        await super().take_trailers(message)

    async def give_up(self, refusal: Refusal, what: str) -> None:
        """See :class:`Half`."""
        if not self._streams or what != "body":
            await super().give_up(refusal, what)
            return
        self._over = True
        await (self._cut_off(b"", refusal) if self.enforce else self._move_on(b""))

    @property
    def _streams(self) -> bool:
        """Whether these are events that come one by one."""
        return content_type(self.head) == sse.CONTENT_TYPE and self.mode not in (wire.BUFFERED, wire.PARTIAL)

    def _open(self) -> ModeratedEvents:
        if self._events is None:
            if self.head.get("content-encoding", "identity") != "identity":
                raise UnsupportedError("compressed events cannot be passed on one by one")
            prompt = prompt_of(self.request.content)
            self._events = ModeratedEvents(self.judge, self.call, prompt, self.stack, enforce=self.enforce)
        return self._events

    async def _move_on(self, shown: bytes, answer: CheckResponse | None = None) -> None:
        await self.show(shown if self.enforce else self._piece, end=self.ended, answer=answer)

    async def _cut_off(self, shown: bytes, refusal: Refusal, answer: CheckResponse | None = None) -> None:
        """Ends the events: by an answer of ours if nothing has gone on yet, else by an event."""
        self._over = True
        if self.head_waits and not shown:
            await self.answer(refusal, answer)
        else:
            await self.show(shown + refusal.as_event, end=True, answer=answer)
            self.done = self.mode == wire.DUPLEX


async def _moved(events: ModeratedEvents, data: bytes, *, end: bool) -> bytes:
    shown = await events.feed(data)
    return shown + await events.end() if end and not events.blocked else shown


async def _silent(message: Any) -> None:
    """For a filter that only watches: it takes no replies."""
