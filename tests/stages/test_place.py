"""A stage on another machine by its address: in the clear on this machine, by TLS elsewhere, and found again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from typer.testing import CliRunner

from cascade.cli import app
from stages.encoder import NetworkStage
from stages.errors import ModelError, StageError, StageUnavailableError
from stages.registry import load_stage
from stages.remote.client import RemoteStage, open_remote
from stages.remote.place import is_place, place_of
from stages.stage import GPU_BATCH_TOKENS, Window
from tests.stages.test_remote import Network, Server

LOCAL = "127.0.0.1:0"
WINDOW = Window((0, 7, 2), 0, 1)


@pytest.fixture(scope="module")
def stage() -> NetworkStage:
    """The hazard model's tokenizer and description over a network that counts."""
    hazard = load_stage("hazard")
    assert isinstance(hazard, NetworkStage)
    network: Any = Network()
    return NetworkStage(hazard.info, hazard.calibration, hazard.tokenizer, network)


@pytest.fixture
def serving() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def serve(*arguments: Any, **options: Any) -> Server:
        started.append(Server(*arguments, **options))
        return started[-1]

    yield serve
    for server in started:
        server.stop()


@pytest.fixture
def opened() -> Iterator[Callable[[str], RemoteStage]]:
    stages: list[RemoteStage] = []

    def open_it(spec: str) -> RemoteStage:
        stage = load_stage(spec)
        assert isinstance(stage, RemoteStage)
        stages.append(stage)
        return stage

    yield open_it
    for stage in stages:
        stage.close()


def test_a_stage_elsewhere_is_loaded_by_its_address(
    stage: NetworkStage, serving: Callable[..., Server], opened: Callable[[str], RemoteStage]
) -> None:
    server = serving(stage, LOCAL)
    remote = opened(f"grpc://{server.address}")
    assert remote.info == replace(stage.info, device=f"grpc://{server.address}")
    assert remote.score([WINDOW])[0].unsafe == 3
    (listed,) = json.loads(CliRunner().invoke(app, ["models", "list", f"grpc://{server.address}", "--json"]).stdout)
    assert (listed["name"], listed["revision"]) == (stage.info.name, stage.info.revision)
    assert listed["calibrated"]
    with pytest.raises(StageUnavailableError, match=r"no stage1 to be had there \(NOT_FOUND\)"):
        open_remote(f"grpc://{server.address}/stage1")


def test_tls_with_an_authority_of_ones_own_a_certificate_and_a_token(
    stage: NetworkStage,
    serving: Callable[..., Server],
    opened: Callable[[str], RemoteStage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = trustme.CA()
    server_cert, own = authority.issue_cert("localhost"), authority.issue_cert("client.example")
    pair = (server_cert.private_key_pem.bytes(), b"".join(pem.bytes() for pem in server_cert.cert_chain_pems))
    root = authority.cert_pem.bytes()
    credentials = grpc.ssl_server_credentials([pair], root_certificates=root, require_client_auth=True)
    gpu = NetworkStage(replace(stage.info, device="cuda:0"), stage.calibration, stage.tokenizer, stage._network)
    server = serving(gpu, LOCAL, credentials=credentials, token="let-me-in")
    port = server.address.rpartition(":")[2]
    (tmp_path / "ca.pem").write_bytes(root)
    (tmp_path / "key.pem").write_bytes(own.private_key_pem.bytes())
    (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in own.cert_chain_pems))
    (tmp_path / "token").write_text("let-me-in\n")
    files = "&".join(f"{name}={tmp_path}/{name}.pem" for name in ("ca", "cert", "key"))
    remote = opened(f"grpcs://localhost:{port}?{files}&token_file={tmp_path}/token")
    assert remote.score([WINDOW])[0].unsafe == 3
    assert remote.info.device == f"grpcs://localhost:{port}"
    assert remote.batch_tokens == GPU_BATCH_TOKENS
    with pytest.raises(StageUnavailableError, match="UNAUTHENTICATED"):
        open_remote(f"grpcs://localhost:{port}?{files}")
    monkeypatch.setattr("stages.remote.client.CONNECT_S", 0.5)
    with pytest.raises(StageUnavailableError):
        open_remote(f"grpcs://localhost:{port}?ca={tmp_path}/ca.pem&token_file={tmp_path}/token")
    with pytest.raises(StageUnavailableError):
        open_remote(f"grpc://localhost:{port}")


def test_a_server_that_comes_back_is_found_again_but_another_model_is_not_taken_for_it(
    stage: NetworkStage, opened: Callable[[str], RemoteStage]
) -> None:
    server = Server(stage, LOCAL)
    remote = opened(f"grpc://{server.address}")
    server.stop()
    with pytest.raises(StageUnavailableError, match="cannot be reached"):
        remote.score([WINDOW])
    server = Server(stage, server.address)
    assert eventually(remote) == 3
    server.stop()
    other = NetworkStage(replace(stage.info, revision="other"), stage.calibration, stage.tokenizer, stage._network)
    server = Server(other, server.address)
    with pytest.raises(StageError, match="@other answers in its place"):
        eventually(remote)
    server.stop()


def eventually(remote: RemoteStage) -> float:
    """The score of a window once the server is there again."""

    async def ask() -> float:
        while True:
            try:
                return remote.score([WINDOW])[0].unsafe
            except StageUnavailableError:
                await asyncio.sleep(0.1)

    return asyncio.run(asyncio.wait_for(ask(), 60))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("grpc://10.0.0.7:50051", "in the clear"),
        ("grpc://gpu.example:50051", "in the clear"),
        ("grpc://localhost", "HOST:PORT"),
        ("grpc://localhost:port", "port"),
        ("grpcs://localhost:1/stage3", "HOST:PORT"),
        ("grpcs://localhost:1?cafile=x", "'cafile' is no option"),
        ("grpcs://localhost:1?cert=x", "go together"),
        ("grpcs://localhost:1?ca=missing.pem", "missing.pem: No such file"),
        ("grpc://localhost:1?ca=x", "belong to grpcs"),
        ("grpc://localhost:1?name=x", "belong to grpcs"),
        ("grpcs://user:secret@localhost:1", "HOST:PORT"),
    ],
)
def test_an_address_that_will_not_do_says_why(spec: str, says: str) -> None:
    assert is_place(spec)
    with pytest.raises(ModelError, match=says) as error:
        load_stage(spec)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_what_an_address_says() -> None:
    assert place_of("grpc://[::1]:50051").target == "[::1]:50051"
    assert place_of("grpc://10.0.0.7:50051?insecure=yes").secure is False
    assert (place_of("grpcs://gpu.example:1").secure, place_of("grpcs://gpu.example:1/stage1").part) == (True, "stage1")
    assert (place_of("grpcs://gpu.example:1").name, place_of("grpcs://gpu.example:1?name=a.b").name) == ("", "a.b")
    assert not any(map(is_place, ("tinysafe", "owner/name", "/a/folder", "grpc:/x")))
