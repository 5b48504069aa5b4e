"""Callers that go without a word, say things slowly, or do not listen: nothing of them stays, nobody waits for them."""

import itertools
import time
from pathlib import Path

from cascade.serve.checks import ITEMS_UNDER_WAY
from cascade.v1.cascade_service_pb2 import CheckStreamRequest, ModerateStart, ModerateStreamRequest
from cascade.v1.check_pb2 import VERDICT_SAFE, CheckRequest
from tests.chaos.conftest import ROUNDS, in_flight, is_whole
from tests.chaos.http2 import STREAM, Wire, headers, prefixed
from tests.serve.calling import stubs
from tests.serve.test_observability import samples
from tests.serve.test_reload import wait_until

MODERATE = "/cascade.v1.CascadeService/ModerateStream"
STREAM_METHOD = ("method", STREAM.strip("/"))
SLOW = prefixed(CheckRequest(text="slow").SerializeToString())
ITEM = prefixed(CheckStreamRequest(request=CheckRequest(request_id="i" * 200, text="hello")).SerializeToString())
START = prefixed(ModerateStreamRequest(start=ModerateStart(prompt="hello")).SerializeToString())


def test_callers_that_vanish_in_the_middle_of_a_call(whole):
    for _ in range(ROUNDS):
        wires = [Wire(whole.port) for _ in range(8)]
        for wire in wires:
            wire.say(wire.begin(headers()), SLOW, last=True)
        wait_until(lambda: in_flight(whole) > 0)
        for wire in wires:
            wire.vanish()
        is_whole(whole)


def test_callers_that_vanish_in_the_middle_of_a_message(whole):
    for cut in range(1, len(SLOW), 4):
        wire = Wire(whole.port)
        wire.say(wire.begin(headers()), SLOW[:cut])
        wire.vanish()
    is_whole(whole)


def test_callers_that_vanish_in_the_middle_of_a_stream(whole):
    for path, first in itertools.product((STREAM, MODERATE), range(3 * ROUNDS)):
        wire = Wire(whole.port)
        stream = wire.begin(headers(path))
        for _ in range(first):
            wire.say(stream, ITEM if path == STREAM else START)
        if first and path == STREAM:
            assert wire.hear(until=lambda wire: bool(wire.answered))
        wire.vanish()


def test_a_caller_that_does_not_read_is_held_back_and_holds_up_nobody(whole):
    """Its window has no room for an answer: the server takes a bounded number of its items, and waits with the rest."""
    before = judged(whole)
    with Wire(whole.port, window=100) as wire:
        stream = wire.begin(headers(STREAM))
        for _ in range(200):
            wire.say(stream, ITEM)
        wait_until(lambda: judged(whole) - before >= ITEMS_UNDER_WAY)
        wire.hear(0.5, credit=False)
        assert judged(whole) - before <= 2 * ITEMS_UNDER_WAY
        started = time.monotonic()
        stubs(whole.channel).cascade.Check(CheckRequest(text="hello"), timeout=60)
        assert time.monotonic() - started < 20
        wire.vanish()
    is_whole(whole)


def judged(server):
    """Items of streams that have been judged."""
    found = samples(server)
    return sum(value for key, value in found.items() if key[0] == "cascade_items_total" and STREAM_METHOD in key)


def test_callers_that_speak_slowly_hold_up_nobody(whole):
    """A byte now and then, on many connections."""
    wires = [Wire(whole.port) for _ in range(100)]
    streams = [wire.begin(headers()) for wire in wires]
    for index in range(len(SLOW) - 1):
        for wire, stream in zip(wires, streams, strict=True):
            wire.say(stream, SLOW[index : index + 1])
        assert stubs(whole.channel).cascade.Check(CheckRequest(text="hello"), timeout=60).verdict == VERDICT_SAFE
    for wire in wires:
        wire.vanish()
    is_whole(whole)


def test_files_that_callers_leave_open_are_closed(whole):
    """As many connections as come and go: their descriptors do not stay."""
    opened = Path(f"/proc/{whole.process.pid}/fd")
    is_whole(whole)
    before = len(list(opened.iterdir()))
    for _ in range(200):
        Wire(whole.port).vanish()
    is_whole(whole)
    wait_until(lambda: len(list(opened.iterdir())) <= before + 4)
