"""The ext_proc filter's protocol, message by message, against the real server with fake models."""

import gzip
import json

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from cascade.gateways.envoy_messages import ProcessingMode, ProcessingRequest
from cascade.gateways.surfaces import Surfaces
from cascade.serve.audit import FileSettings
from cascade.serve.security import AuditSettings, Security
from tests.fakes import FakeStage
from tests.gateways.envoy_filter import (
    BAD,
    BUFFERED,
    CALM,
    DONE,
    DUPLEX,
    EVENTS,
    JSON,
    NONE,
    PARTIAL,
    STREAMED,
    about_request,
    body,
    chat,
    chunk,
    completion,
    config,
    exchange,
    head,
    process,
    said,
    trailers,
)
from tests.gateways.gate import BUSY_S, Gate
from tests.serve.guarded import Guarded

LONG = "word " * 400


def test_a_calm_request_goes_on_with_its_verdict(channel):
    first = head("request", JSON | {"x-cascade-verdict": "safe"}, protocol_config=config())
    headers, judged = process(channel, first, body("request", chat(CALM)))
    assert "x-cascade-verdict" in said(headers).removed, "nobody can forge it"
    assert "accept-encoding" not in said(headers).removed
    assert said(judged).kind == "request_body"
    assert said(judged).body is None
    assert said(judged).headers["x-cascade-verdict"] == "safe"
    assert said(judged).headers["x-cascade-action"] == "allow"
    assert 0 < float(said(judged).headers["x-cascade-unsafe-probability"]) < 0.1
    told = MessageToDict(judged.dynamic_metadata)["cascade"]["request"]
    assert told["verdict"] == "safe"
    assert told["request_id"] == said(judged).headers["x-cascade-request-id"]


def test_what_the_policy_blocks_is_answered_with_403_and_a_typed_body(channel):
    reply = about_request(channel, chat(CALM, "fine", BAD))
    answer = said(reply)
    assert (answer.kind, answer.status) == ("immediate_response", 403)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-cascade-verdict"] == "unsafe"
    assert answer.headers["x-cascade-hazards"] == "hate"
    assert (answer.error["type"], answer.error["code"]) == ("content_policy_violation", "request_blocked")
    assert answer.error["cascade"]["hazards"] == ["hate"]
    assert "terrible" not in json.dumps(answer.error)
    assert answer.details == "cascade_request_blocked"


def test_headers_only_lets_everything_pass_and_tells(telling):
    answer = said(about_request(telling, chat(BAD)))
    assert answer.kind == "request_body"
    assert answer.headers["x-cascade-action"] == "block"
    broken = said(about_request(telling, b"{"))
    assert broken.headers == {"x-cascade-error": "cascade_request_invalid_request"}
    stream = [chunk(BAD + " "), chunk(LONG), chunk("end"), DONE]
    first = head("request", JSON, end=True, protocol_config=config(NONE, STREAMED))
    pieces = [body("response", piece, end=piece == DONE) for piece in stream]
    replies = process(telling, first, head("response", EVENTS), *pieces)
    assert [said(reply).body for reply in replies[2:]] == stream
    assert MessageToDict(replies[-1].dynamic_metadata)["cascade"]["response"]["action"] == "block"


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b'{"messages": [', JSON, 400),
        (b'{"messages": [], "messages": []}', JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b'{"prompt": "\\ud800"}', JSON, 400),
        (b'{"prompt": "\xff"}', JSON, 400),
        (b"\xff\xfe\xfd", {"content-type": "text/plain"}, 400),
        (b"not gzip", JSON | {"content-encoding": "gzip"}, 400),
        (gzip.compress(chat(CALM), mtime=0)[:-9], JSON | {"content-encoding": "gzip"}, 400),
        (gzip.compress(b" " * 20_000_000, mtime=0), JSON | {"content-encoding": "gzip"}, 413),
        (chat("a " * 600_000), JSON, 413),
        (b'{"prompt": [1, 2, 3]}', JSON, 415),
        (b"\x89PNG", {"content-type": "image/png"}, 415),
        (b"x", JSON | {"content-encoding": "br"}, 415),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_next_request_works(channel, data, headers, status):
    answer = said(about_request(channel, data, headers))
    assert answer.status == status
    assert set(answer.error) == {"message", "type", "code", "param"}
    assert said(about_request(channel, chat(CALM))).headers["x-cascade-verdict"] == "safe"


def test_wrong_types_are_read_all_the_same(channel):
    for strange in (
        {"messages": BAD},
        {"messages": {"0": BAD}},
        {"messages": [BAD, 1, None, [BAD]]},
        {"messages": [{"role": ["user"], "content": {"text": BAD}}]},
        {"messages": [{"role": BAD, "content": "hello"}]},
        {"input": {"deep": [BAD]}},
        {"anything": [{"else": BAD}]},
        {"messages": [], "inputs": BAD},
        {"prompt": "hello", "model": "m", "extra": {"deep": BAD}},
        {"messages": [{"role": "user", "type": "image", "content": BAD}]},
        {"messages": [{"role": "user", "type": {}, "content": [{"type": [], "text": BAD}]}]},
        [BAD],
    ):
        assert said(about_request(channel, json.dumps(strange).encode())).status == 403, strange


def test_json_is_read_as_json_whatever_it_is_called(channel):
    hidden = chat("terrible hate").replace(b"terrible", b"\\u0074errible")
    assert said(about_request(channel, hidden, {"content-type": "text/plain"})).status == 403
    assert said(about_request(channel, hidden, {})).status == 403
    twice = b'{"prompt": "hello", "prompt": "terr\\u0069ble"}'
    assert said(about_request(channel, twice, {"content-type": "text/plain"})).status == 400
    assert said(about_request(channel, b"{a poem}", {"content-type": "text/plain"})).kind == "request_body"
    packed = JSON | {"content-encoding": "gzip"}
    assert said(about_request(channel, gzip.compress(chat(BAD)), packed)).status == 403


def test_a_request_without_text_goes_on_without_a_verdict(channel):
    assert said(about_request(channel, b'{"messages": []}')).headers == {}
    (only,) = process(channel, head("request", {}, end=True, protocol_config=config()))
    assert said(only).kind == "request_headers"


def test_a_streamed_body_goes_on_only_as_a_whole(channel):
    data = chat(CALM)
    first = head("request", JSON, protocol_config=config(STREAMED))
    pieces = [
        body("request", data[:10], end=False),
        body("request", data[10:20], end=False),
        body("request", data[20:]),
    ]
    replies = process(channel, first, *pieces)
    assert [said(reply).body for reply in replies[1:]] == [b"", b"", data]
    bad = chat(BAD)
    replies = process(channel, first, body("request", bad[:30], end=False), body("request", bad[30:]))
    assert said(replies[1]).body == b""
    assert said(replies[2]).status == 403


def test_a_duplex_body_holds_the_headers_back(channel):
    data = chat("word " * 40_000)
    first = head("request", JSON, protocol_config=config(DUPLEX))
    replies = [
        said(one) for one in process(channel, first, body("request", data[:99], end=False), body("request", data[99:]))
    ]
    assert replies[0].kind == "request_headers"
    assert replies[0].headers["x-cascade-verdict"] == "safe"
    assert b"".join(reply.body for reply in replies[1:]) == data
    assert [reply.end for reply in replies[1:]] == [False] * (len(replies) - 2) + [True]
    assert all(len(reply.body) <= 65_536 for reply in replies[1:])
    answers = process(channel, first, body("request", chat(BAD), end=False), trailers("request"))
    assert [said(one).kind for one in answers] == ["immediate_response"]
    answers = process(channel, first, body("request", chat(CALM), end=False), trailers("request"))
    assert [said(one).kind for one in answers] == ["request_headers", "request_body", "request_trailers"]
    assert not said(answers[1]).end


def test_a_partial_body_is_refused(channel):
    first = head("request", JSON, protocol_config=config(PARTIAL))
    assert said(process(channel, first, body("request", chat(CALM)))[-1]).kind == "request_body"
    assert said(process(channel, first, body("request", chat(CALM), end=False))[-1]).status == 413


def test_an_older_filter_that_does_not_tell_its_modes_is_served(channel):
    data = chat(CALM)
    assert said(process(channel, head("request", JSON), body("request", data))[-1]).body is None
    replies = process(channel, head("request", JSON), body("request", data[:9], end=False), body("request", data[9:]))
    assert [said(reply).body for reply in replies[1:]] == [b"", data]


def answered(channel, data, mode, headers=JSON, asked=CALM):
    """The replies to an answer that comes in pieces."""
    first = head("request", JSON, protocol_config=config(BUFFERED, mode))
    pieces = [body("response", piece, end=index == len(data) - 1) for index, piece in enumerate(data)]
    return [
        said(one) for one in process(channel, first, body("request", chat(asked)), head("response", headers), *pieces)
    ]


@pytest.mark.parametrize("mode", [BUFFERED, DUPLEX])
def test_an_answer_is_judged_with_its_prompt(channel, mode):
    headers = answered(channel, [completion(CALM)], mode)
    assert "accept-encoding" in headers[0].removed, "answers are to come in a form that can be read"
    assert next(one for one in headers[2:] if one.headers).headers["x-cascade-verdict"] == "safe"
    blocked = answered(channel, [completion(BAD)], mode)[-1]
    assert (blocked.status, blocked.error["code"]) == (403, "response_blocked")
    assert answered(channel, [b"{nothing"], mode)[-1].status == 502


def test_events_go_on_when_they_are_released(channel):
    words = [chunk(f"word{index} ") for index in range(200)]
    stream = [*words, DONE]
    for mode in (DUPLEX, STREAMED):
        replies = answered(channel, stream, mode, EVENTS)
        shown = [reply.body for reply in replies if reply.kind == "response_body"]
        assert b"".join(shown) == b"".join(stream)
        assert len(shown) > 3, "not all at the end"
        if mode == STREAMED:
            assert len(shown) == len(stream), "each piece has one reply"
            assert shown[0] == b""


@pytest.mark.parametrize("mode", [DUPLEX, STREAMED])
def test_events_end_where_the_answer_turns_bad(channel, mode):
    words = [chunk(f"word{index} ") for index in range(200)]
    turned = [*words, *[chunk(BAD + " ")] * 8, *words, DONE]
    replies = answered(channel, turned, mode, EVENTS)
    shown = b"".join(reply.body for reply in replies if reply.kind == "response_body")
    assert b"word0 " in shown
    assert b"terrible" not in shown
    events = shown.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    error = json.loads(events[-3].removeprefix(b"data: "))["error"]
    assert (error["type"], error["code"]) == ("content_policy_violation", "response_blocked")


def test_events_that_are_bad_from_the_start_are_never_begun(channel):
    replies = answered(channel, [chunk(BAD), DONE], DUPLEX, EVENTS)
    assert replies[-1].status == 403
    assert [reply.kind for reply in replies].count("response_headers") == 0


def test_every_choice_is_judged(channel):
    assert answered(channel, [chunk(BAD, 1), chunk(CALM, 0), DONE], DUPLEX, EVENTS)[-1].status == 403
    replies = answered(channel, [chunk(CALM, 0), chunk(BAD, 1), chunk(CALM, 0), DONE], DUPLEX, EVENTS)
    shown = b"".join(reply.body for reply in replies if reply.kind == "response_body")
    assert shown.startswith(chunk(CALM, 0))
    assert b"terrible" not in shown
    assert b"response_blocked" in shown
    many = [chunk(CALM, index) for index in range(17)]
    assert answered(channel, [*many, DONE], DUPLEX, EVENTS)[-1].status == 502


def test_half_a_stream_of_events(channel):
    """The last event has no end, and the one before is cut between two messages in the midst of a letter."""
    whole = chunk("grün und gut").replace(b"gr\\u00fcn", "grün".encode()) + chunk("mehr")[:-2]
    cut = whole.index("ü".encode()) + 1
    for mode in (DUPLEX, STREAMED):
        replies = answered(channel, [whole[:cut], whole[cut:]], mode, EVENTS)
        assert b"".join(reply.body for reply in replies if reply.kind == "response_body") == whole
    assert answered(channel, [b"data: {half\n\n"], DUPLEX, EVENTS)[-1].status == 502


def test_messages_in_no_order_end_the_stream_with_an_error(channel):
    first = head("request", JSON, protocol_config=config())
    again = body("request", chat(CALM))
    for messages in ([ProcessingRequest()], [first, again, again], [head("request", {}, end=True), first]):
        with pytest.raises(grpc.RpcError) as caught:
            process(channel, *messages)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    raw = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")
    with pytest.raises(grpc.RpcError) as caught:
        list(raw(iter([b"\xff\xff"]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said(about_request(channel, chat(CALM))).headers["x-cascade-verdict"] == "safe"


def test_bodies_of_grpc_are_not_judged(channel):
    with pytest.raises(grpc.RpcError) as caught:
        process(channel, head("request", JSON, protocol_config=config(ProcessingMode.GRPC)))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_streamed_answer_leaves_records(tmp_path):
    audit = AuditSettings(FileSettings(tmp_path / "audit"), tmp_path / "salt")
    recorded = Guarded(Security(audit=audit), surfaces=Surfaces(envoy=True))
    try:
        with recorded.channel() as channel:
            answered(channel, [chunk(f"word{index} ") for index in range(99)] + [DONE], DUPLEX, EVENTS)
    finally:
        recorded.stop()
    asked, *states = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert asked["content"][0]["bytes"] == len(CALM)
    assert states[0]["content"][0]["field"] == "exchange.prompt"
    assert [state["final"] for state in states] == [False] * (len(states) - 1) + [True]
    assert sum(part["bytes"] for state in states for part in state["content"][-1:]) == states[-1]["released_upto"]


def test_a_filter_that_only_watches_gets_no_replies(channel):
    first = head("request", JSON, protocol_config=config(), observability_mode=True)
    assert process(channel, first, body("request", chat(BAD))) == []


def test_more_time_is_asked_for_once_when_a_verdict_takes_long():
    gate = Gate()
    slow = Guarded(surfaces=Surfaces(envoy=True), stage1=FakeStage(fail=gate))
    try:
        with slow.channel() as channel:
            gate.shut()
            messages = [head("request", JSON, protocol_config=config()), body("request", chat(CALM))]
            replies = []
            for reply in exchange(channel)(iter(messages), timeout=BUSY_S):
                replies.append(reply)
                if reply.HasField("override_message_timeout"):
                    gate.open()
        kinds = [reply.WhichOneof("response") for reply in replies]
        assert kinds == ["request_headers", None, "request_body"]
        assert replies[1].override_message_timeout.seconds == 10
        assert not replies[1].HasField("dynamic_metadata")
    finally:
        gate.open()
        slow.stop()
