"""Many contents through one pipeline: *items* -> work, some at a time -> results in the order of the items."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from cascade.errors import OverloadedError
from cascade.v1.check_pb2 import CheckRequest, CheckResponse

MAX_CHARACTERS_IN_FLIGHT = 1_000_000

Item = TypeVar("Item")
Result = TypeVar("Result")


class Checker(Protocol):
    """What judges: the pipeline."""

    async def check(self, request: CheckRequest) -> CheckResponse:
        """Answers one request."""


async def in_order(
    items: Iterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    done: Callable[[Item, Result], None],
    *,
    in_flight: int,
    characters: Callable[[Item], int],
) -> None:
    """Works on items and hands over the results in the order of the items; memory does not grow with their number.

    At most ``in_flight`` items, or a million code points of them (``characters`` counts an item's), are worked on at
    once. What ``work`` raises first, in the order of the items, is raised here, and the work under way is cancelled.
    """
    running: deque[tuple[Item, asyncio.Future[Result]]] = deque()
    size = 0

    async def take() -> int:
        item, future = running[0]
        result = await future
        running.popleft()
        done(item, result)
        return characters(item)

    try:
        for item in items:
            while running and (len(running) >= in_flight or size + characters(item) > MAX_CHARACTERS_IN_FLIGHT):
                size -= await take()
            running.append((item, asyncio.ensure_future(work(item))))
            size += characters(item)
        while running:
            await take()
    finally:
        for _, future in running:
            future.cancel()
        await asyncio.gather(*(future for _, future in running), return_exceptions=True)


async def check_patiently(checker: Checker, request: CheckRequest) -> CheckResponse:
    """Checks, and waits while the queue is full: a bulk job is in no hurry, and what is in flight makes room.

    Raises:
        CascadeError: as the pipeline, except OverloadedError.
    """
    while True:
        try:
            return await checker.check(request)
        except OverloadedError as error:
            await asyncio.sleep(error.retry_after_s)
