"""Envoy's filters by route: its operator chooses policy and mode, and its clients cannot."""

import grpc
import pytest

from tests.fakes import fake_policy
from tests.gateways.conftest import STRICT
from tests.gateways.envoy_filter import (
    BAD,
    BUFFERED,
    CALM,
    DONE,
    DUPLEX,
    EVENTS,
    JSON,
    about_request,
    authorize,
    body,
    chat,
    chunk,
    completion,
    config,
    head,
    process,
    said,
)
from tests.serve.calling import fails

CODE = grpc.StatusCode
POLICY, MODE = "x-cascade-policy", "x-cascade-mode"
REVISION = fake_policy(STRICT, name="strict").revision


def processed(channel, data, headers=JSON, *, chosen=()):
    """What ext_proc does about a request: (status of its refusal or 200, headers)."""
    found = said(about_request(channel, data, headers, metadata=chosen))
    return (found.status if found.kind == "immediate_response" else 200), found.headers


def authorized(channel, data, headers=JSON, *, chosen=()):
    """The same of ext_authz."""
    found = authorize(channel, data, headers, metadata=chosen)
    refused = found.WhichOneof("http_response") == "denied_response"
    response = found.denied_response if refused else found.ok_response
    status = response.status.code if refused else 200
    return status, {one.header.key: one.header.value for one in response.headers}


both = pytest.mark.parametrize("ask", [processed, authorized])


@both
def test_a_route_has_its_policy(channel, ask):
    assert ask(channel, chat(CALM))[0] == 200
    status, headers = ask(channel, chat(CALM), chosen=[(POLICY, "strict")])
    assert (status, headers["x-cascade-policy-revision"]) == (403, REVISION)
    assert ask(channel, chat(CALM), chosen=[(POLICY, "default")])[0] == 200
    assert ask(channel, chat(CALM), chosen=[(POLICY, "")])[0] == 200


@both
def test_a_route_has_its_mode(channel, telling, ask):
    """Whatever the server's own is."""
    for server in (channel, telling):
        assert ask(server, chat(BAD), chosen=[(MODE, "block")])[0] == 403
        assert ask(server, b"{", chosen=[(MODE, "block")])[0] == 400
        status, headers = ask(server, chat(BAD), chosen=[(MODE, "headers")])
        assert (status, headers["x-cascade-action"]) == (200, "block")
        status, headers = ask(server, b"{", chosen=[(MODE, "headers")])
        assert (status, headers) == (200, {"x-cascade-error": "cascade_request_invalid_request"})
    assert ask(channel, chat(CALM), chosen=[(POLICY, "strict"), (MODE, "headers")])[1]["x-cascade-action"] == "block"


@both
def test_a_client_chooses_nothing(channel, ask):
    assert ask(channel, chat(BAD), JSON | {MODE: "headers"})[0] == 403
    assert ask(channel, chat(CALM), JSON | {POLICY: "strict"})[0] == 200
    chosen = [(POLICY, "strict"), (MODE, "block")]
    assert ask(channel, chat(CALM), JSON | {POLICY: "default", MODE: "headers"}, chosen=chosen)[0] == 403


@both
@pytest.mark.parametrize(
    ("chosen", "code", "field"),
    [
        ([(POLICY, "none")], CODE.NOT_FOUND, []),
        ([(POLICY, "default"), (POLICY, "strict")], CODE.NOT_FOUND, []),
        ([(MODE, "off")], CODE.INVALID_ARGUMENT, [MODE]),
        ([(MODE, "")], CODE.INVALID_ARGUMENT, [MODE]),
        ([(MODE, "headers"), (MODE, "headers")], CODE.INVALID_ARGUMENT, [MODE]),
        ([(POLICY, "none"), (MODE, "headers")], CODE.NOT_FOUND, []),
    ],
)
def test_what_there_is_not_ends_the_call_so_that_the_filter_decides(channel, ask, chosen, code, field):
    call = {processed: about_request, authorized: authorize}[ask]
    assert fails(code, lambda timeout, **options: call(channel, chat(CALM), **options), metadata=chosen).fields == field
    assert ask(channel, chat(CALM))[0] == 200


@pytest.mark.parametrize(
    ("headers", "pieces"), [(JSON, [completion(CALM)]), (EVENTS, [chunk(CALM), DONE])], ids=["whole", "events"]
)
def test_answers_are_judged_by_the_routes_policy(channel, headers, pieces):
    """A request without a body, so that it is the answer that is refused."""

    def ask(*chosen):
        first = head("request", {}, end=True, protocol_config=config(BUFFERED, DUPLEX))
        events = [body("response", piece, end=piece is pieces[-1]) for piece in pieces]
        replies = process(channel, first, head("response", headers), *events, metadata=chosen)
        return [said(reply) for reply in replies][-1]

    assert ask().kind == "response_body"
    refused = ask((POLICY, "strict"))
    assert (refused.status, refused.error["code"]) == (403, "response_blocked")
    assert refused.error["cascade"]["policy_revision"] == REVISION
    assert ask((POLICY, "strict"), (MODE, "headers")).kind == "response_body"


def test_of_ext_authz_a_routes_extensions_choose_too(channel):
    """They come from the route's configuration, and count for more than the metadata of the filter's."""

    def code(extensions, *chosen):
        return authorize(channel, chat(CALM), extensions=extensions, metadata=chosen).denied_response.status.code

    assert code({POLICY: "strict"}) == 403
    assert code({POLICY: "strict"}, (POLICY, "default"), (MODE, "headers")) == 0
    assert code({POLICY: "default"}, (POLICY, "strict")) == 0
    assert code({MODE: "block"}, (POLICY, "strict"), (MODE, "headers")) == 403
