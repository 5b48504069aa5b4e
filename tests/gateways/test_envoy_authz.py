"""The ext_authz filter's decisions, against the real server with fake models; tokens and records of both filters."""

import json

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from cascade.gateways.envoy_messages import AuthorizationRequest
from cascade.gateways.surfaces import Surfaces
from cascade.serve.admission import AdmissionSettings
from cascade.serve.audit import FileSettings
from cascade.serve.identity import Scope
from cascade.serve.security import AuditSettings, Security
from tests.gateways.envoy_filter import (
    BAD,
    BUFFERED,
    CALM,
    JSON,
    NONE,
    about_request,
    authorize,
    body,
    chat,
    completion,
    config,
    decide,
    head,
    held,
    process,
    said,
)
from tests.serve.guarded import Guarded


def headers(found):
    return {one.header.key: one.header.value for one in found.headers}


def test_a_calm_request_is_let_through_with_its_verdict(channel):
    decision = authorize(channel, chat(CALM), JSON | {"x-cascade-hazards": "none"})
    assert decision.status.code == 0
    assert headers(decision.ok_response)["x-cascade-verdict"] == "safe"
    assert "x-cascade-hazards" in decision.ok_response.headers_to_remove, "nobody can forge it"
    assert MessageToDict(decision.dynamic_metadata)["cascade"]["request"]["action"] == "allow"


def test_what_the_policy_blocks_is_denied(channel):
    decision = authorize(channel, chat(BAD))
    assert decision.status.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert decision.denied_response.status.code == 403
    assert json.loads(decision.denied_response.body)["error"]["code"] == "request_blocked"
    assert headers(decision.denied_response)["content-type"] == "application/json"


def test_a_body_as_text_is_read_too(channel):
    request = AuthorizationRequest()
    request.attributes.request.http.body = chat(BAD).decode()
    assert decide(channel)(request, timeout=60).denied_response.status.code == 403


@pytest.mark.parametrize(
    ("data", "more", "status"),
    [
        (b"{", {}, 400),
        (chat(CALM), {"headers": JSON | {"x-envoy-auth-partial-body": "true"}}, 413),
        (b"", {"size": 9}, 415),
    ],
)
def test_what_did_not_come_whole_is_denied(channel, data, more, status):
    assert authorize(channel, data, **more).denied_response.status.code == status
    assert authorize(channel, chat(CALM)).status.code == 0


def test_a_request_without_a_body_is_let_through(channel):
    assert headers(authorize(channel, b"").ok_response) == {}


def test_headers_only(telling):
    assert headers(authorize(telling, chat(BAD)).ok_response)["x-cascade-action"] == "block"
    broken = authorize(telling, b"{").ok_response
    assert headers(broken) == {"x-cascade-error": "cascade_request_invalid_request"}


def test_filters_need_a_token_that_may_check(tmp_path):
    policy, check = held(path := tmp_path / "tokens.toml", Scope.POLICY, Scope.CHECK)
    guarded = Guarded(Security(token_file=path), surfaces=Surfaces(envoy=True))
    try:
        with guarded.channel() as channel:
            for ask in (authorize, about_request):
                for token, code in (("", grpc.StatusCode.UNAUTHENTICATED), (policy, grpc.StatusCode.PERMISSION_DENIED)):
                    with pytest.raises(grpc.RpcError) as caught:
                        ask(channel, chat(CALM), metadata=[("authorization", f"Bearer {token}")] if token else [])
                    assert caught.value.code() is code
            bearer = [("authorization", f"Bearer {check}")]
            assert authorize(channel, chat(CALM), metadata=bearer).status.code == 0
            assert said(about_request(channel, chat(CALM), metadata=bearer)).kind == "request_body"
    finally:
        guarded.stop()


def test_limits_hold_and_are_told_in_http():
    limited = Guarded(admission=AdmissionSettings(rate=0.001), surfaces=Surfaces(envoy=True))
    try:
        with limited.channel() as channel:
            assert said(about_request(channel, chat(CALM))).kind == "request_body"
            refused = said(about_request(channel, chat("another walk")))
            assert (refused.status, refused.error["type"], refused.error["code"]) == (429, "requests", "RATE_LIMITED")
            assert int(refused.headers["retry-after"]) >= 1
            assert authorize(channel, chat("a third walk")).denied_response.status.code == 429
            answer = head("response", JSON), body("response", completion("a fourth walk"))
            first = head("request", {}, end=True, protocol_config=config(NONE, BUFFERED))
            refused = said(process(channel, first, *answer)[-1])
            assert (refused.status, refused.error["type"]) == (429, "requests"), "no fault of the answer's"
    finally:
        limited.stop()


def test_records_have_what_was_judged_and_no_header(tmp_path):
    audit = AuditSettings(FileSettings(tmp_path / "audit"), tmp_path / "salt")
    recorded = Guarded(Security(audit=audit), surfaces=Surfaces(envoy=True))
    try:
        with recorded.channel() as channel:
            authorize(channel, chat(CALM), JSON | {"cookie": "secret"})
            about_request(channel, chat(BAD), JSON | {"cookie": "secret"})
            authorize(channel, b"{", JSON | {"cookie": "secret"})
    finally:
        recorded.stop()
    text = (tmp_path / "audit").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["method"].rpartition("/")[2] for line in lines] == ["Check", "Process", "Check"]
    assert [line["code"] for line in lines] == ["OK", "OK", "INVALID_ARGUMENT"]
    assert [line.get("result", {}).get("verdict") for line in lines] == ["VERDICT_SAFE", "VERDICT_UNSAFE", None]
    assert lines[0]["content"][0]["bytes"] == len(CALM)
    assert "secret" not in text
    assert "terrible" not in text
