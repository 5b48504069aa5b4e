"""Bounds on what a caller may hold: streams, and how long one lies still, and metadata."""

import itertools
import threading

import grpc
import pytest

from cascade.limits import Limits
from cascade.serve.security import MAX_METADATA_BYTES, Security
from cascade.v1.cascade_service_pb2 import CheckStreamRequest, ModerateStreamRequest
from cascade.v1.check_pb2 import CheckRequest
from cascade.v1.stage_service_pb2 import ScoreRequest, TokenWindow
from tests.serve.calling import fails, stubs
from tests.serve.guarded import Guarded, metric
from tests.serve.test_tokens import wait_for

CODE = grpc.StatusCode
IDLE_S = 1.0


@pytest.fixture(scope="module")
def channel():
    server = Guarded(Security(max_streams=2, stream_idle_s=IDLE_S))
    with server.channel() as channel:
        yield channel
    server.stop()


def one(text="hello"):
    return CheckStreamRequest(request=CheckRequest(text=text))


def until(event, first):
    """Sends some messages and then nothing, until the event."""
    yield from first
    event.wait(60)


@pytest.mark.parametrize(
    ("method", "first"), [("CheckStream", one()), ("ModerateStream", ModerateStreamRequest(start={"prompt": "hi"}))]
)
def test_a_stream_on_which_nothing_comes_is_ended(channel, method, first):
    done = threading.Event()
    stream = getattr(stubs(channel).cascade, method)(until(done, [first]), timeout=60)
    refused = fails(CODE.DEADLINE_EXCEEDED, lambda timeout: list(stream))
    assert refused.info.reason == "STREAM_IDLE"
    done.set()


def test_a_stream_whose_answers_nobody_reads_is_ended():
    server = Guarded(Security(stream_idle_s=IDLE_S))
    message = CheckStreamRequest(request=CheckRequest(request_id="i" * 256, text="hello"))
    small_window = {"grpc.http2.lookahead_bytes": 2048, "grpc.http2.bdp_probe": 0}
    with server.channel(**small_window) as channel:
        stream = stubs(channel).cascade.CheckStream(itertools.repeat(message), timeout=100)
        assert next(stream).response.verdict
        ended = {"method": "cascade.v1.CascadeService/CheckStream", "code": "DEADLINE_EXCEEDED"}
        wait_for(lambda: metric(server.metrics, "cascade_requests_total", **ended) == 1, seconds=60)
        assert fails(CODE.DEADLINE_EXCEEDED, lambda timeout: list(stream)).info.reason == "STREAM_IDLE"
    server.stop()


def test_a_stream_that_goes_on_is_not_ended(channel):
    pause = threading.Event()

    def slowly():
        for _ in range(6):
            pause.wait(IDLE_S / 3)
            yield one()

    assert len(list(stubs(channel).cascade.CheckStream(slowly(), timeout=60))) == 6


def test_a_caller_has_so_many_streams_open_and_no_more(channel):
    done = threading.Event()
    call = stubs(channel).cascade
    streams = [call.CheckStream(until(done, [one()]), timeout=60) for _ in range(2)]
    for stream in streams:
        assert next(stream).response.verdict
    refused = fails(CODE.RESOURCE_EXHAUSTED, lambda timeout: list(call.CheckStream(iter([one()]), timeout=timeout)))
    assert refused.retry is not None
    done.set()
    for stream in streams:
        assert list(stream) == []
    assert len(list(call.CheckStream(iter([one()]), timeout=60))) == 1, "a closed one makes room"


def test_a_content_of_more_tokens_than_a_stage_takes_at_once_is_told_the_limit():
    server = Guarded(queue=4)  # --max-queue
    with server.channel() as channel:
        check = stubs(channel).cascade.Check
        assert check(CheckRequest(text="pear " * 52), timeout=60).verdict  # four windows of the fakes
        refused = fails(CODE.RESOURCE_EXHAUSTED, check, CheckRequest(text="pear " * 53))
        assert (refused.info.reason, refused.info.metadata["limit"]) == ("LIMIT_EXCEEDED", "4")
        assert "windows of text" in refused.message
        assert refused.retry is None, "to come again does not help"
        assert check(CheckRequest(text="hello"), timeout=60).verdict
    server.stop()


def test_windows_of_more_tokens_than_the_limit_are_refused():
    server = Guarded(limits=Limits(max_text_bytes=10))
    with server.channel() as channel:
        windows = [TokenWindow(ids=[5] * 4)] * 3
        refused = fails(
            CODE.RESOURCE_EXHAUSTED, stubs(channel).stage.Score, ScoreRequest(stage="stage1", windows=windows)
        )
        assert (refused.info.reason, refused.info.metadata["limit"]) == ("LIMIT_EXCEEDED", "10")
        assert "more tokens" in refused.message
    server.stop()


def test_metadata_above_the_limit_is_refused(channel):
    check = stubs(channel).cascade.Check
    for size, code in ((MAX_METADATA_BYTES // 2, CODE.OK), (2 * MAX_METADATA_BYTES, CODE.RESOURCE_EXHAUSTED)):
        call = check.future(CheckRequest(text="hello"), metadata=(("x", "v" * size),), timeout=60)
        assert call.code() is code
