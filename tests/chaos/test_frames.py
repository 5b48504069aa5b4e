"""Frames that are no HTTP/2, and calls that are no gRPC: none is answered OK, and no other caller notices."""

import struct

import pytest

from cascade.v1.check_pb2 import CheckRequest
from tests.chaos.conftest import in_flight, is_whole
from tests.chaos.http2 import CHECK, Wire, frame, headers, prefixed

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
MESSAGE = CheckRequest(text="hello").SerializeToString()
UINT = struct.Struct(">I")

BROKEN = {
    "too-long": frame(DATA, 0, 1, b"x" * 100, length=0xFFFFFF),
    "data-on-0": frame(DATA, 1, 0, b"x"),
    "data-on-idle": frame(DATA, 1, 99, b"x"),
    "even-stream": frame(HEADERS, 5, 2, b"\x82"),
    "bad-hpack": frame(HEADERS, 5, 1, b"\xff" * 40),
    "hpack-index": frame(HEADERS, 5, 1, b"\xc8\xff\xff\xff\x7f"),
    "padding": frame(HEADERS, 0x0D, 1, b"\xff\x82"),
    "continuation-alone": frame(CONTINUATION, 4, 1, b"\x82"),
    "torn-headers": frame(HEADERS, 1, 1, b"\x82") + frame(DATA, 1, 1, b"x"),
    "settings-of-5": frame(SETTINGS, 0, 0, b"\0" * 5),
    "settings-window": frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF)),
    "settings-frame-size": frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)),
    "window-of-0": frame(WINDOW_UPDATE, 0, 0, UINT.pack(0)),
    "window-overflow": frame(WINDOW_UPDATE, 0, 0, UINT.pack(0x7FFFFFFF)) * 2,
    "ping-of-7": frame(PING, 0, 0, b"1234567"),
    "reset-on-idle": frame(RST_STREAM, 0, 99, UINT.pack(8)),
    "push": frame(PUSH_PROMISE, 4, 1, UINT.pack(2) + b"\x82"),
    "goaway-short": frame(GOAWAY, 0, 0, b"\0"),
}
FLOODS = {
    "pings": frame(PING, 0, 0, b"12345678") * 3000,
    "settings": frame(SETTINGS, 0, 0, b"") * 3000,
    "priorities": b"".join(frame(PRIORITY, 0, 2 * n + 1, UINT.pack(0) + b"\x10") for n in range(3000)),
    "unknown-kinds": frame(0xBB, 0xFF, 7, b"?") * 3000,
    "empty-data": frame(DATA, 0, 1, b"") * 3000,
    "continuations": frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"\0\x01a\x7f" + b"b" * 127) * 3000,
}
CALLS = {
    "long-prefix": (headers(), b"\0\xff\xff\xff\xff" + MESSAGE),
    "compressed-how": (headers(), b"\1" + UINT.pack(len(MESSAGE)) + MESSAGE),
    "not-gzip": (headers(grpc_encoding="gzip"), b"\1" + UINT.pack(len(MESSAGE)) + MESSAGE),
    "unknown-encoding": (headers(grpc_encoding="zstd9"), b"\1" + UINT.pack(len(MESSAGE)) + MESSAGE),
    "no-such-method": (headers("/cascade.v1.CascadeService/Chek"), prefixed(MESSAGE)),
    "no-such-path": (headers("*"), prefixed(MESSAGE)),
    "get": (headers(pseudo_method="GET"), prefixed(MESSAGE)),
    "no-path": (headers(pseudo_path=None), prefixed(MESSAGE)),
    "much-metadata": (headers(**{f"x-{n}": "y" * 1000 for n in range(20)}), prefixed(MESSAGE)),
    "timeout-of-0": (headers(grpc_timeout="0n"), prefixed(MESSAGE)),
}


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01" * 90, bytes(range(256)) * 40])
def test_what_is_no_http2_at_all_is_hung_up_on(whole, data):
    with Wire(whole.port, greet=False) as wire:
        wire.raw(data)
        assert wire.hear()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_costs_its_own_connection_at_most(whole, name):
    with Wire(whole.port) as wire:
        wire.raw(BROKEN[name])
        wire.hear(0.05)
        assert 0 not in wire.ended.values(), "nothing was asked, so nothing is answered OK"


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_frames_drowns_nobody(whole, name):
    with Wire(whole.port) as wire:
        wire.raw(FLOODS[name])
        wire.hear(0.05)
        assert 0 not in wire.ended.values()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_no_grpc_is_refused(whole, name):
    given, data = CALLS[name]
    with Wire(whole.port) as wire:
        wire.hear(
            until=lambda wire: wire.settled
        )  # grpc holds a caller to limits only once it has said that it heard them
        wire.say(wire.begin(given), data, last=True)
        assert wire.hear(), "it is not left waiting"
        assert 0 not in wire.ended.values()


TORN = {
    "none": b"",
    "half-a-prefix": b"\0\0",
    "half-a-message": prefixed(MESSAGE)[:-1],
    "flag-7": b"\7" + UINT.pack(len(MESSAGE)) + MESSAGE,
}


@pytest.mark.parametrize("data", TORN.values(), ids=TORN)
def test_a_call_that_never_has_its_message_is_never_begun(whole, data):
    """grpc says nothing to such a caller; it gets no answer, and costs no more than the connection that it holds."""
    before = in_flight(whole)
    with Wire(whole.port) as wire:
        wire.say(wire.begin(headers()), data, last=True)
        wire.hear(0.2)
        assert 0 not in wire.ended.values()
        assert in_flight(whole) == before


def test_calls_that_are_begun_and_taken_back_at_once(whole):
    """The attack known as rapid reset: so many of them cost the server no more than it can stand."""
    with Wire(whole.port) as wire:
        for _ in range(1000):
            stream = wire.h2.get_next_available_stream_id()
            wire.h2.send_headers(stream, headers(CHECK))
            wire.h2.send_data(stream, prefixed(CheckRequest(text="slow").SerializeToString()), end_stream=True)
            wire.h2.reset_stream(stream)
            if stream % 100 == 1:
                wire.flush()
        wire.flush()
        wire.hear(0.05)
    is_whole(whole)


def test_a_good_call_by_hand_is_answered(whole):
    """So that what the others send is refused for its fault alone."""
    with Wire(whole.port) as wire:
        wire.say(wire.begin(headers()), prefixed(MESSAGE), last=True)
        assert wire.hear()
        assert list(wire.ended.values()) == [0]
        assert wire.answered
