"""Whatever comes in has a clear answer or a clear error, and the server goes on."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo

from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest, CheckStreamResponse
from cascade.v1.check_pb2 import VERDICT_UNSPECIFIED, CheckRequest, Exchange
from cascade.v1.policy_service_pb2 import GetPolicyRequest
from tests.serve.calling import fails, raw, stubs, unpack

CODE = grpc.StatusCode
NOT_UTF8 = b"\xed\xa0\x80\xed"  # a lone surrogate, as a careless encoder writes it, and a torn one


@pytest.fixture
def call(served):
    yield stubs(served.channel)
    assert stubs(served.channel).cascade.Check(CheckRequest(text="Still there?"), timeout=60).verdict


def not_utf8(message, marker="MARK"):
    return message.SerializeToString().replace(marker.encode(), NOT_UTF8)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (CheckRequest(), "content"),
        (CheckRequest(text=""), "text"),
        (CheckRequest(exchange=Exchange()), "exchange"),
        (CheckRequest(conversation={}), "conversation"),
        (CheckRequest(conversation={"turns": [{"role": "narrator", "text": "hm"}]}), "conversation.turns[0].role"),
        (CheckRequest(text="x", request_id="i" * 257), "request_id"),
        (CheckRequest(text="x", options={"hazards": ["hate", "boredom"]}), "options.hazards[1]"),
    ],
)
def test_a_bad_request_names_its_field(call, request_, field):
    refused = fails(CODE.INVALID_ARGUMENT, call.cascade.Check, request_)
    assert refused.fields == [field]
    assert refused.info.reason == "INVALID_REQUEST"


@pytest.mark.parametrize(
    ("method", "message", "field"),
    [
        ("CascadeService/Check", CheckRequest(text="MARK"), "text"),
        ("CascadeService/Check", CheckRequest(exchange=Exchange(prompt="a", response="MARK")), "exchange.response"),
        ("CascadeService/BatchCheck", BatchCheckRequest(requests=[CheckRequest(text="MARK")]), "requests[0].text"),
        ("PolicyService/GetPolicy", GetPolicyRequest(name="MARK"), "name"),
    ],
)
def test_invalid_utf8_names_its_field(call, served, method, message, field):
    refused = fails(CODE.INVALID_ARGUMENT, raw(served.channel, method), not_utf8(message))
    assert refused.fields == [field]
    assert "UTF-8" in refused.message


def test_bytes_that_are_no_message(call, served):
    refused = fails(CODE.INVALID_ARGUMENT, raw(served.channel, "CascadeService/Check"), b"\xff\x00garbage\xff")
    assert "cascade.v1.CheckRequest" in refused.message
    assert "garbage" not in refused.message


def test_broken_items_of_a_stream_end_only_themselves(call, served):
    stream = served.channel.stream_stream("/cascade.v1.CascadeService/CheckStream")
    good = CheckStreamRequest(request=CheckRequest(request_id="good", text="hello"))
    bad = CheckStreamRequest(request=CheckRequest(request_id="bad", text="MARK"))
    sent = [b"\xffgarbage", not_utf8(bad), good.SerializeToString()]
    answers = [CheckStreamResponse.FromString(data) for data in stream(iter(sent), timeout=60)]
    by_id = {answer.request_id: answer for answer in answers}
    assert len(by_id) == 3
    assert "" not in by_id
    assert by_id["good"].response.verdict != VERDICT_UNSPECIFIED
    assert unpack(by_id["bad"].error)[BadRequest].field_violations[0].field == "request.text"
    (garbage,) = (answer for key, answer in by_id.items() if key not in ("good", "bad"))
    assert garbage.error.code == CODE.INVALID_ARGUMENT.value[0]
    assert unpack(garbage.error)[ErrorInfo].reason == "INVALID_REQUEST"


@pytest.mark.parametrize(
    "text",
    ["\x00", "a\x00b" * 50, " \n\t ", "\u202e\u200b\u200d", "e" + "\u0301" * 500, "\U0010ffff\ufffe", "a" * 20_000],
    ids=["nul", "nuls", "blank", "invisible", "stacked", "nonchars", "one-word"],
)
def test_odd_texts_are_judged(call, text):
    answer = call.cascade.Check(CheckRequest(text=text), timeout=100)
    assert answer.verdict != VERDICT_UNSPECIFIED
    assert answer.coverage.tokens_total == answer.coverage.tokens_scored
    assert not answer.coverage.truncated


def test_a_script_that_stage_1_does_not_read_goes_to_stage_2(call):
    answer = call.cascade.Check(CheckRequest(text="ᎣᏏᏲ ᏙᎯᏧ ᏂᎯ ᎤᏍᏗ ᎠᏂᎦᎵ"))
    assert answer.route.escalated
    assert "unread_script" in answer.route.triggers
    assert [stage.name for stage in answer.stages] == ["stage1", "stage2"]
    assert all(hazard.HasField("probability") for hazard in answer.hazards)


@pytest.mark.parametrize("size", [1_000_001, 2_000_000, 10_000_000])
def test_a_text_above_the_limit_is_told_the_limit(call, size):
    refused = fails(CODE.RESOURCE_EXHAUSTED, call.cascade.Check, CheckRequest(text="x" * size))
    assert refused.info.reason == "LIMIT_EXCEEDED"
    assert refused.info.metadata["limit"] == "1000000"
    assert "1000000" in refused.message
    assert refused.retry is None


def test_the_limit_counts_bytes_of_the_whole_content(call):
    halves = Exchange(prompt="é" * 250_001, response="é" * 250_001)
    assert fails(CODE.RESOURCE_EXHAUSTED, call.cascade.Check, CheckRequest(exchange=halves)).info.metadata["limit"]


def test_a_message_above_the_limit_is_refused_by_grpc_itself(call, served):
    with pytest.raises(grpc.RpcError) as caught:
        raw(served.channel, "CascadeService/Check")(b"x" * (17 * 2**20), timeout=60)
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
    check = raw(served.channel, "CascadeService/Check")
    with pytest.raises(grpc.RpcError) as caught:  # a small message that unpacks to a large one
        check(b"x" * (100 * 2**20), timeout=60, compression=grpc.Compression.Gzip)
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED


@pytest.mark.slow
def test_twenty_thousand_words_are_covered_whole(call):
    words = ("the small brown bird sat on the old garden wall and sang all morning long " * 2).split()
    text = " ".join(words[(7 * index) % len(words)] for index in range(20_000))
    answer = call.cascade.Check(CheckRequest(text=text, options={"explain": True}), timeout=110)
    assert answer.coverage.tokens_total == answer.coverage.tokens_scored >= 20_000
    assert not answer.coverage.truncated
    assert answer.coverage.segments > 20
    assert all(0 <= span.start < span.end <= len(text) for span in answer.spans)


def test_a_deadline_that_is_too_short(call):
    text = "the old garden wall " * 8000
    with pytest.raises(grpc.RpcError) as caught:
        call.cascade.Check(CheckRequest(text=text), timeout=0.05)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED


def test_callers_that_go_away(call):
    text = "the old garden wall " * 2000
    calls = [call.cascade.Check.future(CheckRequest(text=text)) for _ in range(8)]
    time.sleep(0.1)
    assert sum(each.cancel() for each in calls), "all of them were answered: the text is too short for this test"
    stream = call.cascade.CheckStream(CheckStreamRequest(request=CheckRequest(text=text)) for _ in range(50))
    time.sleep(0.1)
    stream.cancel()
    started = time.monotonic()
    call.cascade.Check(CheckRequest(text="Is anybody waiting?"), timeout=60)
    assert time.monotonic() - started < 20, "abandoned texts must not be scored"


def test_many_callers_at_once(call):
    def ask(index):
        return call.cascade.Check(CheckRequest(request_id=str(index), text=f"{index} apples and a pear"), timeout=100)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    assert [answer.request_id for answer in answers] == [str(index) for index in range(64)]
