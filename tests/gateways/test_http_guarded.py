"""Who is let in over HTTP, by which way, and what is kept of it: the same tokens, certificates and audit as gRPC."""

import json
import ssl

import pytest
import trustme

from cascade.serve import tokens
from cascade.serve.audit import FileSettings
from cascade.serve.identity import Scope
from cascade.serve.security import AuditSettings, Security
from cascade.v1.check_pb2 import CheckRequest
from tests.gateways.asking import Gateway, error, raw
from tests.serve.calling import stubs
from tests.serve.test_tls import Files
from tests.serve.test_tokens import bearer, wait_for

TEXT = {"text": "a walk"}
CLOSED = (ssl.SSLError, ConnectionError)


@pytest.fixture
def gateway():
    """Starts servers: ``gateway(security)``."""
    started = []

    def start(security):
        started.append(Gateway(security))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_tokens_scopes_and_quotas_hold(gateway, tmp_path):
    path = tmp_path / "tokens"
    made = {
        "checker": tokens.new([Scope.CHECK], None, None, None),
        "officer": tokens.new([Scope.POLICY], None, None, None),
        "seldom": tokens.new([Scope.CHECK], None, 2, None),
    }
    path.write_text("".join(f"{entry.line(name)}\n" for name, (_, entry) in made.items()))
    server = gateway(Security(token_file=path))
    nobody, wrong = server.asking(), server.asking(token="cascade_wrong")
    checker, officer, seldom = (server.asking(token=token) for token, _ in made.values())
    for ask in (nobody, wrong):
        for path_, body in (("/v1/check", TEXT), ("/v1/policy", None), ("/v1/models", None), ("/metrics", None)):
            found = ask(path_, body)
            assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer")
    found = nobody("/v1/check", TEXT)
    assert error(found) == (401, 16, "UNAUTHENTICATED", [])
    assert (nobody("/healthz").status, nobody("/readyz").status, nobody("/").status) == (200, 200, 200)
    assert error(checker("/v1/policy")) == (403, 7, "PERMISSION_DENIED", [])
    assert error(officer("/v1/check", TEXT)) == (403, 7, "PERMISSION_DENIED", [])
    for ask, path_, body in (
        (checker, "/v1/check", TEXT),
        (checker, "/v1/models", None),
        (checker, "/metrics", None),
        (officer, "/v1/policy", None),
        (officer, "/metrics", None),
    ):
        assert ask(path_, body).status == 200
    with server.channel() as channel:
        assert seldom("/v1/check", TEXT).status == 200
        stubs(channel).cascade.Check(CheckRequest(text="a walk"), timeout=60, metadata=bearer(made["seldom"][0]))
        found = seldom("/v1/check", TEXT)
    assert error(found) == (429, 8, "RATE_LIMITED", []), "its two contents of the day were asked for by either way"
    assert int(found.headers["retry-after"]) >= 1


def test_who_is_not_let_in_need_not_send_a_body(gateway, tmp_path):
    path = tmp_path / "tokens"
    path.write_text(tokens.new([Scope.CHECK], None, None, None)[1].line("one"))
    server = gateway(Security(token_file=path))
    head = b"POST /v1/check HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
    assert raw(server.http, head + b"content-length: 1000000\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    twice = b"authorization: Bearer a\r\nauthorization: Bearer b\r\ncontent-length: 2\r\n\r\n{}"
    assert raw(server.http, head + twice).startswith(b"HTTP/1.1 401 ")


def test_the_audit_log_has_who_asked(gateway, tmp_path):
    log = tmp_path / "audit.jsonl"
    path = tmp_path / "tokens"
    token, entry = tokens.new([Scope.CHECK], None, None, None)
    path.write_text(entry.line("shop"))
    server = gateway(Security(token_file=path, audit=AuditSettings(FileSettings(log), tmp_path / "salt")))
    ask = server.asking(token=token)
    ask("/v1/check", {"text": "a bad thing", "requestId": "r1"})
    ask("/v1/moderations", {"input": ["a walk", "a bad thing"]})
    ask("/v1/check", {"text": 7})
    server.asking()("/v1/check", TEXT)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    method = "cascade.v1.CascadeService/"
    assert [(one["method"].removeprefix(method), one["caller"], one["peer"], one["code"]) for one in records] == [
        ("Check", "shop", "127.0.0.1", "OK"),
        ("BatchCheck", "shop", "127.0.0.1", "OK"),
        ("BatchCheck", "shop", "127.0.0.1", "OK"),
        ("Check", "shop", "127.0.0.1", "INVALID_ARGUMENT"),
        ("Check", "", "127.0.0.1", "UNAUTHENTICATED"),
    ]
    assert records[0]["id"] == "r1"
    assert records[0]["content"][0]["hash"] == records[2]["content"][0]["hash"]


def trusting(files, client=None):
    """A context of a caller that trusts the server's authority; ``client`` is the name in its own certificate."""
    context = ssl.create_default_context(cadata=files.ca.cert_pem.bytes().decode())
    if client is not None:
        files.ca.issue_cert(client).configure_cert(context)
    return context


def reaches(server, context):
    """Whether a new connection gets an answer."""
    try:
        return server.asking(context)("/v1/models").status == 200
    except CLOSED:
        return False


def test_a_new_certificate_is_shown_without_a_restart_and_a_bad_one_is_not(gateway, tmp_path):
    files = Files(tmp_path)
    server = gateway(Security(tls=files.one_way))
    before = trusting(files)
    still = server.asking(before)
    assert still("/v1/check", TEXT).status == 200
    assert not reaches(server, trusting(Files(tmp_path, "other"))), "another authority"
    assert not reaches(server, None), "plain text"
    files.tls.certificate.write_bytes(b"no certificate")
    assert reaches(server, before), "the last good one"
    files.renew(trustme.CA())
    wait_for(lambda: reaches(server, trusting(files)))
    assert not reaches(server, before)
    assert still("/v1/check", TEXT).status == 200, "what was open goes on"


def test_with_a_client_ca_callers_are_known_by_their_certificates(gateway, tmp_path):
    files = Files(tmp_path)
    log = tmp_path / "audit.jsonl"
    server = gateway(Security(tls=files.tls, audit=AuditSettings(FileSettings(log), tmp_path / "salt")))
    assert not reaches(server, trusting(files)), "without one"
    stranger = trusting(files)
    trustme.CA().issue_cert("shop.example").configure_cert(stranger)
    assert not reaches(server, stranger), "of an authority that is not asked for"
    shop = trusting(files, "shop.example")
    assert server.asking(shop)("/v1/check", TEXT).status == 200
    with server.channel(files.credentials("shop.example")) as channel:
        stubs(channel).cascade.Check(CheckRequest(text="a walk"), timeout=60)
    callers = [json.loads(line)["caller"] for line in log.read_text().splitlines()]
    assert callers == ["shop.example", "shop.example"], "the same name over HTTP and over gRPC"
    files.renew(trustme.CA())
    wait_for(lambda: reaches(server, trusting(files, "shop.example")))
    assert not reaches(server, shop)
