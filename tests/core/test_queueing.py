"""Whose windows leave the queue next: turns, lengths, budgets, and the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import DeadlineTooShortError
from cascade.job import AGING, EACH, LONG, Job, Share
from cascade.queueing import LOOKAHEAD, PADDING, PATIENCE, WindowQueue
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
    def of(cls, *lengths: int, deadline: float | None = None, caller: str = "", bulk: bool = False) -> Job:
        windows = [Window((0,) * length, 0, 0) for length in lengths]
        return Job(windows, cls.loop.create_future(), deadline, caller, bulk)


def queue_of(*jobs: Job, budget: int = 1000) -> WindowQueue:
    queue = WindowQueue(budget)
    for job in jobs:
        queue.add(job)
    return queue


def lengths(batch: list[Share]) -> list[list[int]]:
    return [[len(window) for window in share.windows()] for share in batch]


def test_the_shortest_goes_first_with_windows_nearly_as_long_of_others() -> None:
    queue = queue_of(Jobs.of(10, 40, 39), Jobs.of(41), Jobs.of(36), Jobs.of(30), Jobs.of(52))
    assert lengths(queue.take(1, 0)) == [[30], [36]]
    assert lengths(queue.take(1, 0)) == [[41], [40, 39]], "the longest of each first"
    assert lengths(queue.take(1, 0)) == [[52]]
    assert lengths(queue.take(1, 0)) == [[10]]
    assert not queue


def test_a_book_does_not_hold_up_a_sentence_that_comes_later() -> None:
    book = Jobs.of(*[200] * 4)
    queue = queue_of(book, budget=256)
    order = [share.job for share in queue.take(1, 0)]
    sentence = Jobs.of(8)
    queue.add(sentence)
    while queue:
        order += [share.job for share in queue.take(1, 0)]
    assert order == [book, sentence, book, book, book]


def test_waiting_makes_up_for_length() -> None:
    letter, sentence = Jobs.of(*[200] * 4), Jobs.of(8)
    letter.submitted = sentence.submitted - letter.total / AGING
    queue = queue_of(sentence, letter, budget=256)
    order = [share.job for _ in range(5) for share in queue.take(1, 0)]
    assert order == [*[letter] * 4, sentence], "it has waited long enough, and is not left half done"


def test_a_book_goes_to_the_end_after_each_turn_however_long_it_waited() -> None:
    books, sentence = [Jobs.of(*[200] * 100) for _ in range(3)], Jobs.of(8)
    for book in books:
        book.submitted -= 60.0
    queue = queue_of(*books, budget=256)
    assert [share.job for _ in books for share in queue.take(1, 0)] == books
    sentence.submitted = books[0].turned - 0.1
    queue.add(sentence)
    assert [share.job for share in queue.take(1, 0)] == [sentence]


def test_free_threads_share_what_waits() -> None:
    queue = queue_of(Jobs.of(8, 8, 8))
    assert lengths(queue.take(2, 0)) == [[8, 8]]
    assert lengths(queue.take(1, 0)) == [[8]]


def test_the_dead_are_dropped() -> None:
    gone, late, alive = Jobs.of(5), Jobs.of(5, deadline=1.0), Jobs.of(5, deadline=3.0)
    gone.done.cancel()
    queue = queue_of(gone, late, alive)
    assert [share.job for share in queue.take(1, 2.0)] == [alive]
    assert (queue.windows, bool(queue)) == (0, False)


def test_a_batch_is_empty_only_if_all_that_were_looked_at_were_dead() -> None:
    dead = [Jobs.of(5, deadline=0.0) for _ in range(LOOKAHEAD)]
    queue = queue_of(*dead, Jobs.of(5))
    assert queue.take(1, 1.0) == []
    assert queue.windows == 1
    assert lengths(queue.take(1, 1.0)) == [[5]]


def test_who_has_left_is_out() -> None:
    job = Jobs.of(5, 6)
    queue = queue_of(job, budget=6)
    queue.take(1, 0)
    queue.remove(job)
    queue.remove(job)
    assert (queue.windows, bool(queue)) == (0, False)


def test_callers_take_turns_whatever_the_number_of_their_requests() -> None:
    flood = [Jobs.of(10, caller="flood") for _ in range(20)]
    calm = [Jobs.of(10, caller="calm") for _ in range(2)]
    queue = queue_of(*flood, *calm, budget=10)
    order = [share.job.caller for _ in range(6) for share in queue.take(1, 0)]
    assert order == ["flood", "calm", "flood", "calm", "flood", "flood"]


def test_a_batch_is_filled_from_all_callers_alike() -> None:
    flood = [Jobs.of(10, caller="flood") for _ in range(20)]
    calm = [Jobs.of(10, caller="calm") for _ in range(20)]
    queue = queue_of(*flood, *calm, budget=8 * (10 + EACH))
    batch = queue.take(1, 0)
    assert [share.job.caller for share in batch] == ["flood", "calm"] * 4


def test_what_somebody_waits_for_goes_before_bulk_work() -> None:
    queue = queue_of(Jobs.of(10, bulk=True), Jobs.of(10), Jobs.of(20), budget=20 + EACH)
    order = [share.job.bulk for _ in range(3) for share in queue.take(1, 0)]
    assert order == [False, False, True]


def test_bulk_work_gets_its_share_under_any_load() -> None:
    queue = queue_of(*(Jobs.of(10, bulk=True) for _ in range(100)), budget=2 * (10 + EACH))
    tokens = {True: 0, False: 0}
    for _ in range(400):
        queue.add(Jobs.of(10))  # as fast as they are scored
        for share in queue.take(1, 0):
            tokens[share.job.bulk] += 10
    assert tokens[True] * PATIENCE == pytest.approx(tokens[False], rel=0.2)


def test_bulk_work_of_many_lengths_gets_its_share_too() -> None:
    lengths_ = [8, 30, 60, 120, 240]
    queue = queue_of(*(Jobs.of(lengths_[number % 5], bulk=True) for number in range(500)), budget=256)
    work = {True: 0, False: 0}
    for _ in range(800):
        queue.add(Jobs.of(20))
        for share in queue.take(1, 0):
            work[share.job.bulk] += sum(len(window) + EACH for window in share.windows())
    assert work[True] * PATIENCE == pytest.approx(work[False], rel=0.2)


def test_bulk_work_has_no_claim_for_the_time_before_it_came() -> None:
    queue = queue_of(*(Jobs.of(10) for _ in range(50)), budget=10 + EACH)
    for _ in range(40):
        queue.take(1, 0)
    queue.add(Jobs.of(10, bulk=True))
    assert [share.job.bulk for _ in range(PATIENCE) for share in queue.take(1, 0)] == [False] * PATIENCE
    assert [share.job.bulk for share in queue.take(1, 0)] == [True]


def test_what_cannot_be_scored_in_time_is_not_begun_and_told_so() -> None:
    tight, ample, endless = Jobs.of(40, deadline=3.0), Jobs.of(40, deadline=5.0), Jobs.of(40)
    hurried = Jobs.of(40, deadline=3.0)
    hurried.hurried = True
    queue = queue_of(tight, ample, endless, hurried)
    batch = queue.take(1, 0.0, lambda work: work / 14)
    assert [share.job for share in batch] == [ample, endless, hurried]
    assert isinstance(tight.done.exception(), DeadlineTooShortError)


def test_what_goes_before_a_request_counts_in_turns() -> None:
    book = Jobs.of(*[10] * 100, caller="book")
    queue = queue_of(book, Jobs.of(10, caller="flood"), Jobs.of(10, caller="flood"), budget=60)
    flood = 2 * (10 + EACH)
    assert queue.ahead("other", bulk=False) == 60 * 2, "a turn of each"
    assert queue.ahead("book", bulk=False) == LONG + flood, "as much of a book as goes before it is put to the end"
    assert queue.ahead("book", bulk=False, rank=-inf) == flood, "what is short goes before it"
    assert queue.ahead("other", bulk=True) == LONG + flood, "nothing is more urgent than all of that"
    queue.add(Jobs.of(10, bulk=True))
    assert queue.ahead("other", bulk=False) == 60 * 2, "bulk work gives way"
    while queue:
        queue.take(1, 0)
    assert (queue.ahead("other", bulk=True), bool(queue)) == (0, False)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 60), min_size=1, max_size=8), st.sampled_from(["a", "b", "c"]), st.booleans()
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 300),
    st.integers(1, 4),
)
def test_every_window_leaves_once_in_batches_within_their_bounds(
    given_: list[tuple[list[int], str, bool]], budget: int, threads: int
) -> None:
    jobs = [Jobs.of(*lengths, caller=caller, bulk=bulk) for lengths, caller, bulk in given_]
    queue = queue_of(*jobs, budget=budget)
    left = [(number, index) for number, (lengths, _, _) in enumerate(given_) for index in range(len(lengths))]
    while queue:
        assert queue.windows == len(left)
        loads = {
            bulk: sum(min(job.work, max(budget, LONG)) for job in jobs if job.waiting and job.bulk is bulk)
            for bulk in (False, True)
        }
        assert {bulk: queue.lane(bulk).load for bulk in loads} == loads
        batch = queue.take(threads, 0)
        assert len({share.job.bulk for share in batch}) == 1
        taken = [(jobs.index(share.job), index) for share in batch for index in share.indices]
        for window in taken:
            left.remove(window)
        found = [length for share in lengths(batch) for length in share]
        assert max(found) <= PADDING * min(found)
        assert len(found) == 1 or (max(found) + EACH) * len(found) <= budget
    assert (left, queue.windows) == ([], 0)
    assert queue.ahead("a", bulk=True) == 0
