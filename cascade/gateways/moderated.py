"""A model's answer as server-sent events: *bytes* -> moderated -> the bytes that may be shown by now.

Events are passed on whole, unchanged and in order. One is held back until all text up to its end was judged. Each
choice of an answer is a generation of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack

from cascade.errors import LimitExceededError
from cascade.gateways.judge import Generation, Judge, worst_of
from cascade.gateways.sse import Event, Events
from cascade.serve.identity import Call
from cascade.v1.check_pb2 import CheckResponse

MAX_CHOICES = 16

Place = tuple[Generation, int]  # a code point of it


class ModeratedEvents:
    """One stream of events. Each method is awaited before the next is called.

    Args:
        judge: what judges.
        call: for whom.
        prompt: what is being answered, if that is known.
        stack: closes the generations at the end of the stream.
        enforce: nothing is shown that was not judged; otherwise everything is shown at once, and judged all the same.
    """

    def __init__(self, judge: Judge, call: Call, prompt: str, stack: ExitStack, *, enforce: bool) -> None:
        self._judge, self._call, self._prompt, self._stack = judge, call, prompt, stack
        self._enforce = enforce
        self._events = Events()
        self._generations: dict[int, Generation] = {}
        self._held: deque[tuple[bytes, tuple[Place, ...]]] = deque()

    @property
    def verdict(self) -> CheckResponse | None:
        """The worst one so far, if there is one."""
        return worst_of(one.verdict for one in self._generations.values() if one.verdict)

    @property
    def blocked(self) -> bool:
        """Whether no more may be shown."""
        return self._enforce and any(one.blocked for one in self._generations.values())

    async def feed(self, data: bytes) -> bytes:
        """Takes what came and returns what may be shown; nothing more once it is blocked.

        Raises:
            CascadeError: as :class:`Events` and :class:`Generation`; or there are too many choices.
        """
        await self._add(self._events.feed(data))
        return self._released()

    async def end(self) -> bytes:
        """The stream has ended: returns the rest of what may be shown, and is blocked if that is not all.

        Raises:
            CascadeError: as :meth:`feed`.
        """
        await self._add(self._events.end())
        for generation in self._generations.values():
            if not generation.blocked and not self.blocked:
                await generation.finish()
        return self._released()

    @property
    def held(self) -> bool:
        """Whether there are events that may not be shown yet; after the end, that may not be shown at all."""
        return bool(self._held)

    async def _add(self, events: Iterable[Event]) -> None:
        for event in events:
            if self.blocked:
                return
            places = []
            for choice, text in event.texts:
                if text:
                    generation = await self._generation(choice)
                    if not generation.blocked:
                        await generation.add(text)
                    places.append((generation, generation.length))
            self._held.append((event.raw, tuple(places)))

    async def _generation(self, choice: int) -> Generation:
        if choice not in self._generations:
            if len(self._generations) >= MAX_CHOICES:
                raise LimitExceededError("choices", MAX_CHOICES)
            generation = self._stack.enter_context(self._judge.generation(self._prompt, self._call))
            self._generations[choice] = generation
            await generation.open()
        return self._generations[choice]

    def _released(self) -> bytes:
        shown = []
        while self._held and not self.blocked:
            raw, places = self._held[0]
            if self._enforce and any(generation.released < end for generation, end in places):
                break
            shown.append(raw)
            self._held.popleft()
        return b"".join(shown)
