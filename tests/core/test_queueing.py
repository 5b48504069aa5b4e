"""Whose windows leave the queue next: turns, lengths, budgets, and the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.queueing import LOOKAHEAD, PADDING, Job, Share, WindowQueue
from stages.stage import Window


@pytest.fixture(autouse=True, scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for futures to belong to; it never runs."""
    loop = asyncio.new_event_loop()
    Jobs.loop = loop
    yield loop
    loop.close()


class Jobs:
    """Makes jobs of the given window lengths."""

    loop: asyncio.AbstractEventLoop

    @classmethod
    def of(cls, *lengths: int, deadline: float | None = None) -> Job:
        windows = [Window((0,) * length, 0, 0) for length in lengths]
        return Job(windows, cls.loop.create_future(), deadline)


def queue_of(*jobs: Job) -> WindowQueue:
    queue = WindowQueue()
    for job in jobs:
        queue.add(job)
    return queue


def lengths(batch: list[Share]) -> list[list[int]]:
    return [[len(window) for window in share.windows()] for share in batch]


def test_the_longest_windows_go_first_and_others_nearly_as_long_fill_up() -> None:
    queue = queue_of(Jobs.of(10, 40, 39), Jobs.of(41), Jobs.of(36), Jobs.of(30))
    assert lengths(queue.take(1000, 1, 0)) == [[40, 39], [36]]
    assert lengths(queue.take(1000, 1, 0)) == [[41]]
    assert lengths(queue.take(1000, 1, 0)) == [[30]]
    assert lengths(queue.take(1000, 1, 0)) == [[10]]
    assert not queue


def test_whoever_has_windows_left_goes_to_the_end() -> None:
    book, letter = Jobs.of(*[8] * 6), Jobs.of(3)
    queue = queue_of(book, letter)
    order = []
    while queue:
        order += [share.job for share in queue.take(16, 1, 0)]
    assert order == [book, letter, book, book]


def test_free_threads_share_what_waits() -> None:
    queue = queue_of(Jobs.of(8, 8, 8))
    assert lengths(queue.take(1000, 2, 0)) == [[8, 8]]
    assert lengths(queue.take(1000, 1, 0)) == [[8]]


def test_the_dead_are_dropped() -> None:
    gone, late, alive = Jobs.of(5), Jobs.of(5, deadline=1.0), Jobs.of(5, deadline=3.0)
    gone.done.cancel()
    queue = queue_of(gone, late, alive)
    assert [share.job for share in queue.take(1000, 1, 2.0)] == [alive]
    assert (queue.windows, bool(queue)) == (0, False)


def test_a_batch_is_empty_only_if_all_that_were_looked_at_were_dead() -> None:
    dead = [Jobs.of(5, deadline=0.0) for _ in range(LOOKAHEAD)]
    queue = queue_of(*dead, Jobs.of(5))
    assert queue.take(1000, 1, 1.0) == []
    assert queue.windows == 1
    assert lengths(queue.take(1000, 1, 1.0)) == [[5]]


def test_who_has_left_is_out() -> None:
    job = Jobs.of(5, 6)
    queue = queue_of(job)
    queue.take(6, 1, 0)
    queue.remove(job)
    queue.remove(job)
    assert (queue.windows, bool(queue)) == (0, False)


@given(
    st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=8), min_size=1, max_size=12),
    st.integers(1, 300),
    st.integers(1, 4),
)
def test_every_window_leaves_once_in_batches_within_their_bounds(
    sizes: list[list[int]], budget: int, threads: int
) -> None:
    jobs = [Jobs.of(*lengths) for lengths in sizes]
    queue = queue_of(*jobs)
    left = [(number, index) for number, lengths in enumerate(sizes) for index in range(len(lengths))]
    while queue:
        assert queue.windows == len(left)
        batch = queue.take(budget, threads, 0)
        taken = [(jobs.index(share.job), index) for share in batch for index in share.indices]
        for window in taken:
            left.remove(window)
        found = [length for share in lengths(batch) for length in share]
        assert max(found) * len(found) <= PADDING * sum(found)
        assert len(found) == 1 or max(found) * len(found) <= budget
    assert (left, queue.windows) == ([], 0)
