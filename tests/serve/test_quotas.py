"""Quotas: what one caller may have, counted by all processes that share a book."""

import math
import subprocess
import sys
import time
from datetime import UTC, datetime

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import RateLimitedError
from cascade.serve.admission import AdmissionSettings
from cascade.serve.identity import UNBOUNDED, Quota, Scope
from cascade.serve.quotas import DAY_S, LONGEST_S, Quotas
from cascade.serve.tokens import new
from cascade.serve.used import PLACES, ROWS, Book
from cascade.v1.check_pb2 import CheckRequest
from tests.serve.calling import fails, stubs
from tests.serve.conftest import environment
from tests.serve.guarded import Guarded

TAKE = """
import sys
from cascade.serve.used import Book
book = Book(int(sys.argv[1]))
for _ in range(2000):
    with book.of("somebody") as used:
        used.count += 1
"""


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def taken(quotas, caller, quota, tries=100):
    count = 0
    for _ in range(tries):
        try:
            quotas.take(caller, quota)
        except RateLimitedError:
            return count
        count += 1
    return count


def test_a_seconds_worth_may_come_at_once_and_the_rest_at_the_rate():
    clock = Clock(1000.0)
    quotas = Quotas(5.0, clock=clock)
    assert taken(quotas, "a", UNBOUNDED) == 5
    assert taken(quotas, "b", UNBOUNDED) == 5, "each caller has a bucket of its own"
    clock.now += 0.4
    assert taken(quotas, "a", UNBOUNDED) == 2
    clock.now += 3600
    assert taken(quotas, "a", UNBOUNDED) == 5
    assert taken(quotas, "c", Quota(rate=2.0)) == 2, "a caller's own rate counts"
    assert taken(Quotas(), "d", UNBOUNDED) == 100


# Every rate that a token file takes, however small.
RATES = st.one_of(
    st.floats(0, 100, exclude_min=True, allow_subnormal=True), st.sampled_from([5e-324, 1e-310, 1e-300, 1e-9])
)


@given(RATES, st.lists(st.floats(0, 50), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_no_rate_is_exceeded_and_each_refusal_says_when_to_come_again(rate, pauses):
    clock = Clock(1e6)
    quotas = Quotas(rate, clock=clock)
    took = 0
    for pause in pauses:
        clock.now += pause
        took += taken(quotas, "a", UNBOUNDED, tries=200)
    assert took <= max(1.0, rate) + rate * (clock.now - 1e6) + 1e-3
    took_all = 200  # of one more crowd, which a second's worth of the highest rate is below
    assert taken(quotas, "a", UNBOUNDED, tries=took_all) < took_all
    with pytest.raises(RateLimitedError) as refused:
        quotas.take("a", UNBOUNDED)
    wait = refused.value.retry_after_s
    assert 0 < wait <= LONGEST_S
    clock.now += math.nextafter(wait, math.inf) + 1e-6
    quotas.take("a", UNBOUNDED)


def test_the_smallest_rate_over_the_wire():
    """One call is answered; the next one is told a time, thirty years, and is no incident."""
    server = Guarded(admission=AdmissionSettings(rate=5e-324))
    with server.channel() as channel:
        call = stubs(channel).cascade
        call.Check(CheckRequest(text="a"), timeout=60)
        refused = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, call.Check, CheckRequest(text="a"))
    assert refused.info.reason == "RATE_LIMITED"
    assert 0.9 * LONGEST_S < refused.retry.retry_delay.seconds <= 1.1 * LONGEST_S
    server.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tokens_quotas_hold_for_all_workers_together(fake_server, everywhere, tmp_path, workers):
    rate, daily, path = 0.2, 5, tmp_path / "tokens.toml"
    made = {"slow": new([Scope.CHECK], rate, None, None), "daily": new([Scope.CHECK], None, daily, None)}
    path.write_text("".join(f"{entry.line(name)}\n" for name, (_, entry) in made.items()))
    calls = everywhere(fake_server(workers=workers, token_file=path))
    fails(grpc.StatusCode.UNAUTHENTICATED, calls[0].cascade.Check, CheckRequest(text="hello"))

    def count(name):
        authorized, taken = (("authorization", f"Bearer {made[name][0]}"),), 0
        for call in calls * 2:
            try:
                call.cascade.Check(CheckRequest(text="hello"), timeout=60, metadata=authorized)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017 - some calls are taken
            else:
                taken += 1
        return taken

    started = time.monotonic()
    assert 1 <= count("slow") <= 1 + rate * (time.monotonic() - started)
    today = datetime.now(UTC).date()
    assert daily <= count("daily") <= daily * (1 + (datetime.now(UTC).date() - today).days)


def test_a_day_has_an_end_and_a_clock_that_is_set_back_begins_no_new_one():
    calendar = Clock(20_000 * DAY_S + 3600)
    quotas = Quotas(calendar=calendar)
    assert taken(quotas, "a", Quota(daily=3)) == 3
    calendar.now -= DAY_S
    assert taken(quotas, "a", Quota(daily=3)) == 0
    calendar.now += 2 * DAY_S
    assert taken(quotas, "a", Quota(daily=3)) == 3


def test_processes_that_share_a_book_lose_no_count():
    book = Book()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(book.fileno())], pass_fds=[book.fileno()], env=environment()
        )
        for _ in range(2)
    ]  # fmt: skip
    assert [process.wait(60) for process in processes] == [0, 0]
    with book.of("somebody") as used:
        assert used.count == 4000


def test_what_a_failing_caller_changed_is_not_kept():
    book = Book()
    with pytest.raises(ZeroDivisionError), book.of("a") as used:
        used.count = 1 // 0
    with book.of("a") as used:
        assert used.count == 0


def test_the_book_has_an_end_and_keeps_those_who_came_last():
    book = Book()
    callers = [f"caller {number}" for number in range(ROWS * PLACES + 5000)]
    for number, caller in enumerate(callers):
        with book.of(caller) as used:
            used.full_at = float(number + 1)
    remembered = 0
    for number, caller in enumerate(callers[-1000:], len(callers) - 1000):
        with book.of(caller) as used:
            remembered += used.full_at == number + 1
    assert remembered > 950
