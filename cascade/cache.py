"""Answers that need not be made again: *request* -> one that is kept, or one under way, or a new one -> *response*.

The key is a hash of the raw content, the options, the policy's revision and the models. It is of the raw text and not
of its canonical form, because the two get different scores. No text is kept, only answers, by keys that nobody can
guess: the hash is keyed with a secret of the process.

Equal requests that are under way at the same time share one computation. Where they would not be scheduled alike (see
``scope``) they do not: a reader at a screen must not wait in a bulk job's place. What failed, and what was answered by
less than the whole cascade, is shared by those who wait for it but never kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from hashlib import blake2b
from math import inf
from os import urandom
from uuid import uuid4

from cascade import tracing
from cascade.errors import DeadlineError, DeadlineTooShortError
from cascade.v1.check_pb2 import CheckRequest, CheckResponse

ENTRIES, MAX_BYTES = 16_384, 32 * 2**20
OVERHEAD = 256  # bytes that an entry costs beside its answer: key, objects, its place in the dictionary

Compute = Callable[[], Awaitable[CheckResponse]]
Place = tuple[bytes, Hashable]


class Kept:
    """The answers used last, at most so many, and so many bytes with all that they cost."""

    def __init__(self, entries: int, max_bytes: int) -> None:
        self.bytes = self.evicted = 0
        self._entries, self._max_bytes = entries, max_bytes
        self._answers: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: bytes) -> bytes | None:
        """The answer of a key, which has now been used last."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: bytes) -> None:
        """Keeps an answer, and forgets those used longest ago for which there is no room."""
        before = self._answers.pop(key, None)
        if before is not None:
            self.bytes -= len(before) + OVERHEAD
        self._answers[key] = answer
        self.bytes += len(answer) + OVERHEAD
        while len(self._answers) > self._entries or self.bytes > self._max_bytes:
            _, oldest = self._answers.popitem(last=False)
            self.bytes -= len(oldest) + OVERHEAD
            self.evicted += 1


class _Flight:
    """A computation that is under way, in the task of who began it; ``deadline`` is theirs."""

    __slots__ = ("_followed", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._followed: asyncio.Future[CheckResponse | None] | None = None

    async def follow(self) -> CheckResponse | None:
        """What comes of it; None if whoever began it has left it."""
        if self._followed is None:
            self._followed = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._followed)  # one follower that leaves leaves it to the others

    def land(self, outcome: CheckResponse | Exception | None) -> None:
        """Tells the followers what came of it."""
        if self._followed is None:
            return
        if isinstance(outcome, Exception):
            self._followed.set_exception(outcome)
            self._followed.exception()  # seen, even if all of them have left
        else:
            self._followed.set_result(outcome)


class Answers:
    """The answers of one pipeline. Belongs to one event loop.

    Attributes:
        kept: what is kept.
        hits: requests that got a kept answer.
        shared: requests that waited for the computation of an equal one.
        misses: requests for which an answer was made.
    """

    def __init__(self, models: str, *, entries: int = ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        """``models`` says which models answer: in other words for other ones."""
        self.kept = Kept(entries, max_bytes)
        self.hits = self.shared = self.misses = 0
        self._models = models
        self._secret = urandom(32)
        self._under_way: dict[Place, _Flight] = {}

    async def answer(
        self, request: CheckRequest, revision: str, compute: Compute, *, deadline: float | None, scope: Hashable
    ) -> CheckResponse:
        """The answer to a request, with its own id; what was not spent for it is no time of its stages.

        Whoever asks first computes; if that caller leaves, cancelled or too late, one of those who joined begins anew.

        Args:
            request: a valid request.
            revision: of the policy that applies.
            compute: makes the answer; keeps to ``deadline`` by itself.
            deadline: a time of the event loop's clock.
            scope: what the computation's place in the queues depends on; shared only where it is the same.

        Raises:
            DeadlineError: the deadline passed.
            CascadeError: whatever ``compute`` raises, for this request or an equal one.
        """
        key = self._key(request, revision)
        place, latest = (key, scope), inf if deadline is None else deadline
        while True:
            if kept := self.kept.get(key):
                self.hits += 1
                tracing.note(cascade__cache="hit")
                return _readdressed(CheckResponse.FromString(kept), request)
            flight = self._under_way.get(place)
            if flight is None:
                return await self._make(place, compute, latest)
            try:
                async with asyncio.timeout_at(deadline):
                    response = await flight.follow()
            except TimeoutError:
                raise DeadlineError("the deadline passed before the content was scored") from None
            except (DeadlineError, DeadlineTooShortError):  # that was the deadline of who began it
                continue
            if response is None:
                continue
            if response.degraded and flight.deadline < latest:
                return await compute()  # perhaps for want of time, and here there is more of it
            self.shared += 1
            tracing.note(cascade__cache="shared")
            copy = CheckResponse()
            copy.CopyFrom(response)
            return _readdressed(copy, request)

    def _key(self, request: CheckRequest, revision: str) -> bytes:
        asked = CheckRequest()
        asked.CopyFrom(request)
        asked.request_id, asked.policy = self._models, revision  # in place of what an answer does not depend on
        if not asked.options.ByteSize():
            asked.ClearField("options")  # none at all are the same as none that are set
        return blake2b(asked.SerializeToString(), digest_size=16, key=self._secret).digest()

    async def _make(self, place: Place, compute: Compute, deadline: float) -> CheckResponse:
        """Computes an answer in the caller's own task, for the caller and whoever joins until it is there."""
        self.misses += 1
        self._under_way[place] = flight = _Flight(deadline)
        outcome: CheckResponse | Exception | None = None  # stays so if the caller leaves: the next one begins anew
        try:
            outcome = response = await compute()
            if not response.degraded:
                self.kept.put(place[0], response.SerializeToString())
            return response
        except Exception as error:
            outcome = error
            raise
        finally:
            del self._under_way[place]
            flight.land(outcome)


def _readdressed(response: CheckResponse, request: CheckRequest) -> CheckResponse:
    """The response as one to this request, for which no stage has done anything."""
    response.request_id = request.request_id or uuid4().hex
    for stage in response.stages:
        stage.tokenize_ms = stage.queue_ms = stage.infer_ms = 0.0
    return response
