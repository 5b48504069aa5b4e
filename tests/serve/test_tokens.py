"""Who is let in by its token, to what, and what becomes of those who are not."""

import datetime
import logging
import resource
import subprocess
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cascade.serve import tokens
from cascade.serve.guard import SCOPES, scope_of
from cascade.serve.identity import Quota, Scope, address_of
from cascade.serve.security import Security
from cascade.v1 import cascade_service_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2
from cascade.v1.check_pb2 import CheckRequest
from cascade.v1.model_service_pb2 import ListModelsRequest
from cascade.v1.policy_service_pb2 import GetPolicyRequest
from tests.serve.calling import SERVICES, fails, raw, stubs
from tests.serve.conftest import COMMAND, environment
from tests.serve.guarded import Guarded

CODE = grpc.StatusCode
DENIED = (CODE.UNAUTHENTICATED, CODE.PERMISSION_DENIED)
CONTRACTS = (cascade_service_pb2, policy_service_pb2, model_service_pb2, stage_service_pb2)
METHODS = {
    f"{service.full_name}/{method.name}": method
    for module in CONTRACTS
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
HOLDERS = {"checker": [Scope.CHECK], "officer": [Scope.POLICY], "root": [Scope.ADMIN]}


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """The token file, and the token of each holder."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    made = {name: tokens.new(scopes, None, None, None) for name, scopes in HOLDERS.items()}
    made["late"] = tokens.new([Scope.ADMIN], None, None, datetime.date(2020, 1, 1))
    path.write_text("".join(f"{entry.line(name)}\n" for name, (_, entry) in made.items()))
    return path, {name: token for name, (token, _) in made.items()}


@pytest.fixture(scope="module")
def channel(held):
    server = Guarded(Security(token_file=held[0]))
    with server.channel() as channel:
        yield channel
    server.stop()


def code_of(channel, name, metadata):
    """The code of an empty call of any method."""
    method = METHODS[name]
    path = f"/{name}"
    try:
        if method.client_streaming:
            list(channel.stream_stream(path)(iter([b""]), metadata=metadata, timeout=60))
        else:
            channel.unary_unary(path)(b"", metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return CODE.OK


def test_every_service_has_its_scope():
    services = {name.partition("/")[0] for name in METHODS}
    ours = {name for name in SCOPES if name.startswith("cascade.v1.")}  # the others are other standards'
    assert set(SERVICES) == services <= ours <= services | set(METHODS)
    assert scope_of("cascade.v2.NewService/Do") is Scope.ADMIN, "what nobody has thought of"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_asks_for_a_token_with_its_scope(channel, held, name):
    wanted = scope_of(name)
    assert code_of(channel, name, ()) is CODE.UNAUTHENTICATED
    assert code_of(channel, name, bearer("cascade_" + "x" * 43)) is CODE.UNAUTHENTICATED
    for holder, scopes in HOLDERS.items():
        code = code_of(channel, name, bearer(held[1][holder]))
        if wanted in (None, *scopes) or holder == "root":
            assert code not in DENIED
        else:
            assert code is CODE.PERMISSION_DENIED


def test_a_refusal_says_what_is_missing(channel, held):
    call = stubs(channel)
    assert fails(CODE.UNAUTHENTICATED, call.models.ListModels, ListModelsRequest()).info.reason == "UNAUTHENTICATED"
    metadata = bearer(held[1]["checker"])
    refused = fails(CODE.PERMISSION_DENIED, call.policy.GetPolicy, GetPolicyRequest(), metadata=metadata)
    assert refused.info.reason == "PERMISSION_DENIED"
    assert refused.info.metadata["scope"] == "policy"


@pytest.mark.parametrize(
    "authorization", ["Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "Bearer x{}", "Bearer {} {}"]
)
def test_authorizations_of_other_forms_are_refused(channel, held, authorization):
    metadata = (("authorization", authorization.replace("{}", held[1]["root"])),)
    refused = fails(CODE.UNAUTHENTICATED, stubs(channel).models.ListModels, ListModelsRequest(), metadata=metadata)
    assert held[1]["root"] not in refused.message


def test_two_authorizations_are_refused_and_a_lowercase_scheme_is_none(channel, held):
    root = held[1]["root"]
    ask = stubs(channel).models.ListModels
    fails(CODE.UNAUTHENTICATED, ask, ListModelsRequest(), metadata=bearer(root) * 2)
    assert ask(ListModelsRequest(), metadata=(("authorization", f"bearer {root}"),), timeout=60).models


def test_an_expired_token_is_refused(channel, held):
    metadata = bearer(held[1]["late"])
    refused = fails(CODE.UNAUTHENTICATED, stubs(channel).models.ListModels, ListModelsRequest(), metadata=metadata)
    assert "expired" in refused.message


def test_nothing_is_parsed_for_who_is_not_let_in(channel, held):
    check = raw(channel, "CascadeService/Check")
    assert fails(CODE.UNAUTHENTICATED, check, b"\xffgarbage").info.reason == "UNAUTHENTICATED"
    parsed = fails(CODE.INVALID_ARGUMENT, check, b"\xffgarbage", metadata=bearer(held[1]["checker"]))
    assert parsed.info.reason == "INVALID_REQUEST"


def test_health_and_reflection_are_open(channel):
    health = health_pb2_grpc.HealthStub(channel)
    status = health.Check(health_pb2.HealthCheckRequest(), timeout=60).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]), timeout=60)
    assert "cascade.v1.CascadeService" in {service.name for service in answer.list_services_response.service}


def test_without_tokens_a_public_server_leaves_policies_alone():
    server = Guarded(Security(public=True))
    with server.channel() as channel:
        call = stubs(channel)
        assert call.cascade.Check(CheckRequest(text="hello"), timeout=60).verdict
        refused = fails(CODE.PERMISSION_DENIED, call.policy.GetPolicy, GetPolicyRequest())
        assert refused.info.metadata["scope"] == "policy"
    server.stop()


def test_the_file_is_followed_and_a_bad_one_changes_nothing(tmp_path, caplog):
    path = tmp_path / "tokens.toml"
    (first, one), (second, two) = (tokens.new([Scope.CHECK], 2.5, 7, None) for _ in range(2))
    path.write_text(one.line("one"))
    known = tokens.Tokens(path)
    assert known.identify(first).quota == Quota(2.5, 7)
    with caplog.at_level(logging.INFO):
        path.write_text("one = broken")
        wait_for(lambda: known.identify(first) and "stays in force" in caplog.text)
        path.write_text(two.line("two"))
        wait_for(lambda: name_of(known, second) == "two")
    assert name_of(known, first) is None, "a token that was taken out is refused"


def test_a_token_that_was_revoked_while_the_file_could_not_be_read_is_refused_when_it_can(tmp_path, caplog):
    path = tmp_path / "tokens.toml"
    (leaked, one), (other, two) = (tokens.new([Scope.CHECK], None, None, None) for _ in range(2))
    path.write_text("\n".join((one.line("one"), two.line("two"))))
    known = tokens.Tokens(path)
    path.write_text(two.line("two"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # somebody has opened all the connections that there can be
    try:
        wait_for(lambda: known.identify(leaked) and "stays in force" in caplog.text)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: name_of(known, leaked) is None)
    assert name_of(known, other) == "two"
    (told,) = [record.error for record in caplog.records if "stays in force" in record.message]
    assert "Too many open files" in told


def name_of(known, token):
    try:
        return known.identify(token).name
    except tokens.UnauthenticatedError:
        return None


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def test_a_line_reads_back_as_it_was_written_and_holds_no_token(tmp_path):
    path = tmp_path / "tokens.toml"
    token, entry = tokens.new([Scope.POLICY, Scope.CHECK], 0.5, 100_000, datetime.date(2999, 12, 31))
    path.write_text(entry.line("ci"))
    assert token not in path.read_text()
    (known,) = tokens.read(path)
    assert known.identity.name == "ci"
    assert known.identity.scopes == {Scope.CHECK, Scope.POLICY}
    assert known.identity.quota == Quota(0.5, 100_000)
    assert known.expires == datetime.date(2999, 12, 31)


HASH = "0" * 64


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "tokens.toml"),
        ("ci = 3", "ci"),
        (f'"a b" = {{ sha256 = "{HASH}", scopes = ["check"] }}', "is no name"),
        ('ci = { sha256 = "abc", scopes = ["check"] }', "ci.sha256"),
        (f'ci = {{ sha256 = "{HASH}", scopes = [] }}', "ci.scopes"),
        (f'ci = {{ sha256 = "{HASH}", scopes = ["all"] }}', "ci.scopes"),
        (f'ci = {{ sha256 = "{HASH}", scopes = ["check"], rate = 0 }}', "ci.rate"),
        (f'ci = {{ sha256 = "{HASH}", scopes = ["check"], daily = -1 }}', "ci.daily"),
        (f'ci = {{ sha256 = "{HASH}", scopes = ["check"], expire = 2020-01-01 }}', "ci.expire"),
        (f'a = {{ sha256 = "{HASH}", scopes = ["check"] }}\nb = {{ sha256 = "{HASH}", scopes = ["check"] }}', "two"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, problem):
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    with pytest.raises(tokens.TokenFileError, match=problem):
        tokens.Tokens(path)


def test_the_command_adds_a_hash_to_the_file_and_prints_the_token_once(tmp_path):
    path = tmp_path / "tokens.toml"
    command = [*COMMAND, "token", "new", "ci", "--scopes", "check", "--rate", "5", "--token-file", str(path)]
    token = run(command, tmp_path).stdout.strip()
    assert token.startswith(tokens.PREFIX)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0, "the file is its owner's alone"
    assert tokens.Tokens(path).identify(token).name == "ci"
    again = run(command, tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    printed, line = run(command[:-2], tmp_path).stdout.splitlines()
    path.write_text(line)
    assert tokens.Tokens(path).identify(printed).scopes == {Scope.CHECK}


def run(command, folder):
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:41952", "10.0.0.7"),
        ("ipv6:[::1]:41952", "::1"),
        ("ipv6:%5B2001:db8::1%5D:41952", "2001:db8::1"),
        ("unix:", "unix:"),
    ],
)
def test_a_caller_is_known_by_its_address_without_the_port(peer, address):
    assert address_of(peer) == address
