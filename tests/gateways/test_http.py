"""The HTTP gateway: the same answers as gRPC, each error in its form, and nothing that a bad request leaves behind."""

import json
import logging
import re
import subprocess
import sys
import time

import pytest
from google.protobuf.json_format import ParseDict

from cascade.gateways import bodies, listener
from cascade.limits import Limits
from cascade.serve.admission import AdmissionSettings
from cascade.v1.check_pb2 import CheckRequest, CheckResponse
from tests.fakes import FakeStage
from tests.gateways.asking import Gateway, error, raw
from tests.gateways.gate import Gate
from tests.serve.calling import stubs
from tests.serve.conftest import COMMAND, environment
from tests.serve.guarded import metric

SECRET = "zanzibar"  # a word of texts, which no log and no error may have
OVER_LIMIT = {"text": "word " * 20_001}


@pytest.fixture(scope="module")
def gateway():
    server = Gateway(limits=Limits(max_text_bytes=100_000))
    yield server
    server.stop()


@pytest.fixture
def ask(gateway):
    return gateway.asking()


def test_a_check_is_answered_as_grpc_answers_it(gateway, ask):
    asked = [
        {"text": "a bad hate thing", "requestId": "mine"},
        {"text": "a walk", "options": {"explain": True, "hazards": ["hate"]}},
        {"exchange": {"prompt": "what", "response": "a terrible thing"}},
        {"conversation": {"turns": [{"role": "user", "text": "hello"}, {"role": "assistant", "text": "bad"}]}},
        {"text": "unsure", "options": {"bypassCache": True}},
        {"text": "unsure", "options": {"bypass_cache": True}, "policy": None},
    ]
    with gateway.channel() as channel:
        for body in asked:
            found = ask("/v1/check", body)
            assert found.status == 200
            over_http = ParseDict(found.json, CheckResponse())
            over_grpc = stubs(channel).cascade.Check(ParseDict(body, CheckRequest()), timeout=60)
            assert over_http.request_id == body.get("requestId", over_http.request_id) != ""
            assert comparable(over_http) == comparable(over_grpc)


def comparable(response):
    """An answer without what no two calls share."""
    response.request_id = ""
    for stage in response.stages:
        stage.tokenize_ms = stage.queue_ms = stage.infer_ms = 0
    return response


REFUSED = {
    "no JSON": (b"{" + SECRET.encode(), 400, 3, "INVALID_REQUEST", []),
    "nothing": (b"", 400, 3, "INVALID_REQUEST", []),
    "two values": (b"{} {}", 400, 3, "INVALID_REQUEST", []),
    "no object": ([SECRET], 400, 3, "INVALID_REQUEST", []),
    "not UTF-8": (b'{"text": "\xff"}', 400, 3, "INVALID_REQUEST", []),
    "half a surrogate pair": (b'{"text": "\\ud800"}', 400, 3, "INVALID_REQUEST", []),
    "not a number": (b'{"text": NaN}', 400, 3, "INVALID_REQUEST", ["text"]),
    "nested without end": (b"[" * 100_000, 400, 3, "INVALID_REQUEST", []),
    "nothing to judge": ({}, 400, 3, "INVALID_REQUEST", ["content"]),
    "an empty text": ({"text": ""}, 400, 3, "INVALID_REQUEST", ["text"]),
    "an unknown field": ({"txt": SECRET}, 400, 3, "INVALID_REQUEST", ["txt"]),
    "a text as a name": ({f"{SECRET} and more": 1}, 400, 3, "INVALID_REQUEST", ["(a name that is none)"]),
    "one further in": ({"text": "x", "options": {"hazard": []}}, 400, 3, "INVALID_REQUEST", ["options.hazard"]),
    "a number": ({"text": 7}, 400, 3, "INVALID_REQUEST", ["text"]),
    "no true or false": ({"options": {"explain": SECRET}}, 400, 3, "INVALID_REQUEST", ["options.explain"]),
    "no array": ({"conversation": {"turns": {}}}, 400, 3, "INVALID_REQUEST", ["conversation.turns"]),
    "no message": ({"exchange": SECRET}, 400, 3, "INVALID_REQUEST", ["exchange"]),
    "one of many": (
        {"conversation": {"turns": [{"text": SECRET}, {"text": ["x"]}]}}, 400, 3, "INVALID_REQUEST",
        ["conversation.turns[1].text"],
    ),
    "two contents": ({"text": SECRET, "exchange": {}}, 400, 3, "INVALID_REQUEST", ["exchange"]),
    "an unknown role": (
        {"conversation": {"turns": [{"role": SECRET, "text": "x"}]}}, 400, 3, "INVALID_REQUEST",
        ["conversation.turns[0].role"],
    ),
    "an unknown policy": ({"text": SECRET, "policy": SECRET}, 404, 5, "NOT_FOUND", []),
    "too long a text": (OVER_LIMIT, 413, 8, "LIMIT_EXCEEDED", []),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_request_is_told_by_its_field_and_the_next_one_works(ask, caplog, what):
    body, *expected = REFUSED[what]
    with caplog.at_level(logging.DEBUG):
        found = ask("/v1/check", body)
    assert error(found) == tuple(expected)
    assert SECRET not in found.text
    assert SECRET not in caplog.text
    assert ask("/v1/check", {"text": "a walk"}).json["verdict"] == "VERDICT_SAFE", "on the same connection"


def test_a_body_must_say_that_it_is_json(ask):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        found = ask("/v1/check", {"text": "x"}, {"content-type": kind})
        assert error(found) == (400, 3, "INVALID_REQUEST", ["content-type"])
    assert ask("/v1/check", {"text": "x"}, {"content-type": "Application/JSON; charset=utf-8"}).status == 200


def test_what_there_is_not_is_told_as_well(ask):
    for path, body, status in (("/v1/chek", {}, 404), ("/v1/check", None, 405), ("/v1/policy", {}, 405)):
        found = ask(path, body)
        assert (found.status, set(found.json)) == (status, {"code", "message", "details"})


HEAD = b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
GOOD = b'{"text": "a walk"}'


def test_a_header_that_lies_about_the_length_costs_its_sender_the_connection(gateway, ask, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_S", 0.3)
    monkeypatch.setattr(listener, "HEADERS_S", 0.3)
    length = b"content-length: %d\r\n"
    short = raw(gateway.http, HEAD + length % 3 + b"\r\n" + GOOD)
    assert (short[:13], short.count(b"HTTP/1.1")) == (b"HTTP/1.1 400 ", 1), "half a body; the rest begins no request"
    late = raw(gateway.http, HEAD + length % 100 + b"connection: close\r\n\r\n" + GOOD)
    assert late.startswith(b"HTTP/1.1 408 ")
    assert b"STREAM_IDLE" in late
    both = raw(gateway.http, HEAD + length % 3 + length % len(GOOD) + b"\r\n" + GOOD)
    assert both.startswith(b"HTTP/1.1 400 ")
    huge = raw(gateway.http, HEAD + length % 10**12 + b"connection: close\r\n\r\n")
    assert huge.startswith(b"HTTP/1.1 413 "), "refused before it comes"
    assert raw(gateway.http, HEAD + b"content-length: many\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert ask("/v1/check", {"text": "a walk"}).status == 200


def test_a_body_without_a_length_is_bounded_too(gateway, ask, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 1000)
    chunks = b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert raw(gateway.http, HEAD + chunks + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)).startswith(b"HTTP/1.1 200 ")
    found = raw(gateway.http, HEAD + chunks + b"7d0\r\n" + b" " * 2000 + b"\r\n0\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b'"limit":"1000"' in found
    assert ask("/v1/check", {"text": "a walk"}).status == 200


def test_headers_have_a_bound_in_time_and_in_size(gateway, ask, monkeypatch):
    monkeypatch.setattr(listener, "HEADERS_S", 0.3)
    started = time.monotonic()
    assert raw(gateway.http, b"") == b"", "nothing was asked"
    assert raw(gateway.http, HEAD) == b"", "the headers did not end"
    assert time.monotonic() - started < 20
    assert raw(gateway.http, HEAD + b"x: " + b"y" * 100_000).startswith(b"HTTP/1.1 400 ")
    assert ask("/v1/check", {"text": "a walk"}).status == 200


def test_too_much_that_is_being_read_is_refused():
    server = Gateway(admission=AdmissionSettings(max_bytes=1000))
    try:
        found = server.asking()("/v1/check", {"text": "word " * 400})
        assert error(found)[:3] == (429, 8, "OVERLOADED")
        assert int(found.headers["retry-after"]) >= 1
    finally:
        server.stop()


def test_a_deadline_is_kept_and_who_goes_away_is_not_waited_for():
    gate = Gate()
    server = Gateway(stage1=FakeStage(fail=gate), alone=True)
    try:
        ask, late = server.asking(), server.asking()
        gate.shut()
        found = ask("/v1/check", {"text": "a walk"}, {"grpc-timeout": "200m"})
        assert (found.status, found.json["code"]) == (504, 4)
        assert error(ask("/v1/check", {"text": "x"}, {"grpc-timeout": "soon"})) == (
            400, 3, "INVALID_REQUEST", ["grpc-timeout"],
        )  # fmt: skip
        gate.open()
        assert ask("/v1/check", {"text": "a walk"}, {"grpc-timeout": "1M"}).status == 200
        gate.shut()
        late.connection.request(
            "POST", "/v1/check", json.dumps({"text": "a ride"}), {"content-type": "application/json"}
        )
        wait_for(lambda: metric(server.metrics, "cascade_requests_in_flight") == 1)
        late.close()
        method = "cascade.v1.CascadeService/Check"
        wait_for(lambda: metric(server.metrics, "cascade_requests_total", method=method, code="CANCELLED") == 1)
        assert metric(server.metrics, "cascade_requests_total", method=method, code="DEADLINE_EXCEEDED") == 1
    finally:
        gate.open()
        server.stop()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_the_policy_and_the_models_in_force(gateway, ask):
    found = ask("/v1/policy").json
    policy = gateway.pipeline.policies.get("")
    assert (found["policy"]["revision"], found["policy"]["toml"]) == (policy.revision, policy.toml)
    assert found["settings"]["stage1"]["unsafe_threshold"] == policy.stage1.unsafe_threshold
    assert found["settings"]["hazards"]["hate"]["threshold"] == policy.hazards["hate"].threshold
    assert error(ask("/v1/policy?name=nobodys"))[:3] == (404, 5, "NOT_FOUND")
    models = ask("/v1/models").json["data"]
    assert [(model["stage"], model["id"], model["revision"]) for model in models] == [
        ("stage1", "fake-tinysafe", "r1"),
        ("stage2", "fake-hazard", "r1"),
    ]


def test_probes_need_no_body_and_metrics_count_calls_as_those_of_grpc(gateway, ask):
    assert (ask("/healthz").text, ask("/readyz").text) == ("ok\n", "ready\n")
    ask("/v1/check", {"text": "a walk"})
    found = ask("/metrics")
    assert found.headers["content-type"].startswith("text/plain")
    assert re.search(
        r'^cascade_requests_total\{code="OK",method="cascade.v1.CascadeService/Check"\} [1-9]', found.text, re.M
    )
    assert re.search(r'^cascade_verdicts_total\{verdict="VERDICT_SAFE"\} [1-9]', found.text, re.M)
    assert (
        "application/openmetrics-text"
        in ask("/metrics", headers={"accept": "application/openmetrics-text"}).headers["content-type"]
    )


def test_a_bug_is_an_incident_without_the_text():
    async def broken(*_, **__):
        raise ValueError(SECRET)

    server = Gateway(alone=True)
    try:
        server.pipeline.check = broken
        found = server.asking()("/v1/check", {"text": "a walk"})
        assert (found.status, found.json["code"]) == (500, 13)
        assert SECRET not in found.text
        assert re.search(r'"incident":"[0-9a-f]{32}"', found.text)
    finally:
        server.stop()


def test_without_the_extra_the_command_says_what_to_install(tmp_path):
    program = "import sys; sys.modules['uvicorn'] = None; from cascade.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--http-port", "0", "--port", "0"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "pip install 'safety-cascade[http]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_somebody_has_is_told_by_its_option(gateway, tmp_path):
    port = gateway.http.rpartition(":")[2]
    command = [*COMMAND, "serve", "--http-port", port, "--port", "0"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert "--http-port" in done.stderr
