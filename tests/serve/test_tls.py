"""TLS, with and without certificates of callers, and certificates that change while the server runs."""

import json
import logging

import grpc
import pytest
import trustme

from cascade.serve import tokens
from cascade.serve.audit import FileSettings
from cascade.serve.identity import Scope
from cascade.serve.security import AuditSettings, Security
from cascade.serve.tls import TlsError, TlsFiles, server_credentials
from cascade.v1.check_pb2 import CheckRequest
from cascade.v1.model_service_pb2 import ListModelsRequest
from cascade.v1.policy_service_pb2 import ValidatePolicyRequest
from tests.serve.calling import fails, stubs
from tests.serve.conftest import COMMAND, ServerProcess
from tests.serve.guarded import Guarded
from tests.serve.test_command import serve, usage_error
from tests.serve.test_tokens import bearer, wait_for

CODE = grpc.StatusCode


class Files:
    """Certificates of an authority of its own, in files."""

    def __init__(self, folder, name="server"):
        self.ca = trustme.CA()
        self.tls = TlsFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-clients.pem")
        self.renew()

    def renew(self, ca=None):
        """Writes a new certificate, of another authority if there is one."""
        self.ca = ca or self.ca
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        self.tls.key.write_bytes(issued.private_key_pem.bytes())
        self.tls.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.tls.client_ca.write_bytes(self.ca.cert_pem.bytes())

    @property
    def one_way(self):
        return TlsFiles(self.tls.certificate, self.tls.key)

    def credentials(self, client=None):
        """What a caller needs that trusts this authority; ``client`` is the name in its own certificate."""
        trust = self.ca.cert_pem.bytes()
        if client is None:
            return grpc.ssl_channel_credentials(trust)
        issued = self.ca.issue_cert(client)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return grpc.ssl_channel_credentials(trust, issued.private_key_pem.bytes(), chain)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def guarded():
    """Starts servers: ``guarded(security)``."""
    started = []

    def start(security):
        started.append(Guarded(security))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def reaches(server, credentials, number=[0]):  # noqa: B006 - counts over all calls
    """Whether a new connection with these credentials gets an answer."""
    number[0] += 1
    with server.channel(credentials, **{"grpc.use_local_subchannel_pool": 1, "test.number": number[0]}) as channel:
        code = stubs(channel).models.ListModels.future(ListModelsRequest(), timeout=60).code()
    assert code in (CODE.OK, CODE.UNAVAILABLE)
    return code is CODE.OK


def test_who_trusts_the_certificate_gets_through_and_nobody_else(guarded, files, tmp_path):
    server = guarded(Security(tls=files.one_way))
    assert reaches(server, files.credentials())
    assert not reaches(server, Files(tmp_path, "other").credentials()), "a server of another authority"
    assert not reaches(server, None), "plain text"


def test_a_new_certificate_is_used_without_a_restart_and_open_connections_go_on(guarded, files, tmp_path):
    server = guarded(Security(tls=files.one_way))
    before, other = files.credentials(), trustme.CA()
    with server.channel(before) as open_channel:
        ask = stubs(open_channel).models.ListModels
        assert ask(ListModelsRequest(), timeout=60).models
        files.renew(other)
        wait_for(lambda: reaches(server, files.credentials()))
        assert ask(ListModelsRequest(), timeout=60).models
    assert not reaches(server, before)


def test_files_that_do_not_fit_each_other_change_nothing(guarded, files, caplog):
    server = guarded(Security(tls=files.one_way))
    before = files.credentials()
    with caplog.at_level(logging.ERROR):
        other = trustme.CA()
        files.tls.certificate.write_bytes(other.issue_cert("localhost").cert_chain_pems[0].bytes())
        wait_for(lambda: reaches(server, before) and "stays in force" in caplog.text)
        files.tls.key.unlink()
        assert reaches(server, before)
    files.renew(other)
    wait_for(lambda: reaches(server, files.credentials()))


def test_with_a_client_ca_callers_need_a_certificate_of_it(guarded, files, tmp_path):
    log = tmp_path / "audit.jsonl"
    audit = AuditSettings(FileSettings(log), tmp_path / "salt")
    server = guarded(Security(tls=files.tls, audit=audit, public=True))
    assert not reaches(server, files.credentials())
    foreign = Files(tmp_path, "foreign")
    issued = foreign.ca.issue_cert("gateway.example")
    mixed = grpc.ssl_channel_credentials(
        files.ca.cert_pem.bytes(), issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    )
    assert not reaches(server, mixed), "a certificate of another authority"
    with server.channel(files.credentials("gateway.example")) as channel:
        call = stubs(channel)
        assert call.cascade.Check(CheckRequest(text="hello"), timeout=60).verdict
        assert call.policy.ValidatePolicy(ValidatePolicyRequest(toml="x"), timeout=60).problems, "it may do everything"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["caller"] for record in records] == ["gateway.example"] * 2


def test_another_client_ca_is_used_without_a_restart(guarded, files, tmp_path):
    server = guarded(Security(tls=files.tls))
    foreign = Files(tmp_path, "foreign")
    issued = foreign.ca.issue_cert("gateway.example")
    mixed = grpc.ssl_channel_credentials(
        files.ca.cert_pem.bytes(), issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()
    )
    assert not reaches(server, mixed)
    files.tls.client_ca.write_bytes(foreign.ca.cert_pem.bytes())
    wait_for(lambda: reaches(server, mixed))
    assert not reaches(server, files.credentials("gateway.example"))


def test_tokens_are_wanted_beside_certificates(guarded, files, tmp_path):
    token, entry = tokens.new([Scope.CHECK], None, None, None)
    (tmp_path / "tokens.toml").write_text(entry.line("gateway"))
    server = guarded(Security(tls=files.tls, token_file=tmp_path / "tokens.toml"))
    with server.channel(files.credentials("gateway.example")) as channel:
        ask = stubs(channel).cascade.Check
        fails(CODE.UNAUTHENTICATED, ask, CheckRequest(text="hello"))
        assert ask(CheckRequest(text="hello"), metadata=bearer(token), timeout=60).verdict


def test_files_that_cannot_be_used_are_told_at_the_start(files, tmp_path):
    missing = tmp_path / "missing.pem"
    with pytest.raises(TlsError, match=r"missing\.pem"):
        server_credentials(TlsFiles(missing, files.tls.key))
    with pytest.raises(TlsError, match=r"missing\.pem"):
        server_credentials(TlsFiles(files.tls.certificate, files.tls.key, missing))
    with pytest.raises(TlsError, match="no certificate with its key"):
        server_credentials(TlsFiles(files.tls.certificate, files.tls.client_ca))
    with pytest.raises(TlsError, match="no certificate with its key: key values mismatch"):
        server_credentials(TlsFiles(files.tls.certificate, Files(tmp_path, "other").tls.key))
    with pytest.raises(TlsError, match="holds no certificates"):
        server_credentials(TlsFiles(files.tls.certificate, files.tls.key, files.tls.key))


def test_options_that_do_not_make_tls_are_refused(tmp_path, files):
    certificate = str(files.tls.certificate)
    assert "go together" in usage_error("--tls-cert", certificate)
    assert "go together" in usage_error("--tls-key", certificate)
    assert "--tls-cert" in usage_error("--tls-client-ca", certificate)
    told = serve(tmp_path, "--port", "0", "--tls-cert", certificate, "--tls-key", certificate)
    assert "no certificate with its key" in told


def test_the_command_serves_a_public_address_with_tls(tmp_path, files):
    tls = files.one_way
    options = ["--host", "0.0.0.0", "--port", "0", "--metrics-port", "0", "--stage2", "none"]
    command = [*COMMAND, "serve", *options, "--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)]
    server = ServerProcess(command, tmp_path, credentials=files.credentials())
    try:
        assert server.first_line.startswith("ready grpc=0.0.0.0:")
        assert "metrics=127.0.0.1:" in server.first_line, "metrics stay on this machine unless somebody says otherwise"
        assert stubs(server.channel).cascade.Check(CheckRequest(text="hello"), timeout=60).verdict
    finally:
        server.close()
