import asyncio
import random
from collections.abc import Iterator

import pytest

from cascade.bulk import MAX_CHARACTERS_IN_FLIGHT, check_patiently, in_order
from cascade.errors import OverloadedError
from cascade.v1.check_pb2 import CheckRequest, CheckResponse


async def test_keeps_the_order_and_reads_no_further_ahead_than_it_may() -> None:
    read, handed, ahead = [], [], []
    dice = random.Random(4)

    def items() -> Iterator[int]:
        for number in range(200):
            read.append(number)
            ahead.append(len(read) - len(handed))
            yield number

    async def work(number: int) -> int:
        await asyncio.sleep(dice.random() / 500)
        return number * 2

    await in_order(items(), work, lambda *pair: handed.append(pair), in_flight=7, characters=lambda _: 1)
    assert handed == [(number, number * 2) for number in range(200)]
    assert max(ahead) <= 8  # seven at work and the one that was just read


async def test_long_items_are_bounded_by_their_length_and_a_huge_one_goes_alone() -> None:
    sizes = [MAX_CHARACTERS_IN_FLIGHT // 2] * 6 + [3 * MAX_CHARACTERS_IN_FLIGHT] + [1] * 3
    at_work: list[int] = []
    most = []

    async def work(size: int) -> None:
        at_work.append(size)
        most.append((len(at_work), sum(at_work)))
        await asyncio.sleep(0.001)
        at_work.remove(size)

    await in_order(sizes, work, lambda *_: None, in_flight=64, characters=lambda size: size)
    assert all(total <= MAX_CHARACTERS_IN_FLIGHT or count == 1 for count, total in most)
    assert max(count for count, _ in most) >= 2


async def test_the_first_failure_comes_out_and_nothing_goes_on_behind_it() -> None:
    handed, cancelled = [], []

    async def work(number: int) -> int:
        if number == 3:
            raise KeyError(number)
        try:
            await asyncio.sleep(0 if number < 3 else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    with pytest.raises(KeyError):
        await in_order(range(100), work, lambda item, _: handed.append(item), in_flight=5, characters=lambda _: 1)
    assert handed == [0, 1, 2]
    assert cancelled
    assert len(asyncio.all_tasks()) == 1


async def test_a_full_queue_is_waited_for() -> None:
    class Busy:
        calls = 0

        async def check(self, request: CheckRequest) -> CheckResponse:
            self.calls += 1
            if self.calls < 4:
                raise OverloadedError("full", retry_after_s=0.001)
            return CheckResponse(request_id=request.request_id)

    busy = Busy()
    assert (await check_patiently(busy, CheckRequest(request_id="a"))).request_id == "a"
    assert busy.calls == 4
