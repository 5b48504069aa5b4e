"""Sends calls when they are due, whatever became of those before: *calls* -> outcomes.

The load is open: a call's latency is counted from the moment when it was due, not from when it could be sent. A server
that stands still for a second then shows that second in every call that was due in it, where a closed loop would show
one slow call and forgive the rest ("coordinated omission").

The clock is a thread, since asyncio's timers round up to a millisecond.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

LEAD_S = 0.05  # before the first call: the clock's thread has begun by then


class CallError(Exception):
    """A call was not answered; the message is a short reason, such as a status code, and holds no text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says of its own time, in milliseconds by phase, and whether the call went to stage 2."""

    phases: Mapping[str, float] = field(default_factory=dict)
    escalated: bool = False


Send = Callable[[str], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Call:
    """A text of so many tokens, due so many seconds after the start."""

    due: float
    text: str
    tokens: int


@dataclass(slots=True)
class Outcome:
    """What became of a call: seconds from the start, an answer or an error. A call that was never sent has neither."""

    call: Call
    sent: float = inf
    ended: float = inf
    answer: Answer | None = None
    error: str = ""

    @property
    def latency(self) -> float:
        """Seconds from when the call was due to its answer; without an answer infinite."""
        return self.ended - self.call.due if self.answer else inf


@dataclass(frozen=True, slots=True)
class Trial:
    """One outcome for each call that was due within ``seconds``.

    ``overrun``: the load was ended early, since too many calls were open.
    """

    outcomes: list[Outcome]
    seconds: float
    overrun: bool


async def drive(
    send: Send, calls: Sequence[Call], seconds: float, *, timeout_s: float = 10.0, most_open: float = inf
) -> Trial:
    """Sends all calls and waits for what becomes of them.

    Args:
        send: makes one call; raises :class:`CallError`.
        calls: by due time.
        seconds: the time over which they are spread.
        timeout_s: what a call may take from when it was sent.
        most_open: calls that may be open; with more the load ends at once, and those still due are never sent.
    """
    loop, outcomes = asyncio.get_running_loop(), [Outcome(call) for call in calls]
    open_calls: set[asyncio.Task[None]] = set()
    bugs: list[BaseException] = []  # of the sender; its tasks may be done long before the load is
    stop, overrun = threading.Event(), False
    started = time.perf_counter() + LEAD_S

    async def one(outcome: Outcome) -> None:
        outcome.sent = time.perf_counter() - started
        try:
            async with asyncio.timeout(timeout_s):
                outcome.answer = await send(outcome.call.text)
        except CallError as error:
            outcome.error = str(error)
        except TimeoutError:
            outcome.error = "no answer in time"
        outcome.ended = time.perf_counter() - started

    def begin(outcome: Outcome) -> None:
        nonlocal overrun
        if stop.is_set():
            return
        if len(open_calls) >= most_open:
            overrun = True
            stop.set()
            return
        task = loop.create_task(one(outcome))
        open_calls.add(task)
        task.add_done_callback(ended)

    def ended(task: asyncio.Task[None]) -> None:
        open_calls.discard(task)
        if not task.cancelled() and (bug := task.exception()):
            bugs.append(bug)

    def keep_time() -> None:
        for outcome in outcomes:
            wait = started + outcome.call.due - time.perf_counter()
            if stop.wait(wait) if wait > 0 else stop.is_set():
                return
            loop.call_soon_threadsafe(begin, outcome)

    try:
        await asyncio.to_thread(keep_time)
        tasks = list(open_calls)
        if overrun:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        stop.set()
        for task in open_calls:
            task.cancel()
    if bugs:
        raise bugs[0]
    return Trial(outcomes, seconds, overrun)
