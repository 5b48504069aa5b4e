"""A replica of the ingress as Ray's proxy calls it, without Ray and with stage 1 alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest
from grpc_status.rpc_status import GRPC_DETAILS_METADATA_KEY
from pydantic import ValidationError

from cascade.build import build_pipeline
from cascade.errors import PolicyError
from cascade.gateways.ray_serve import contract
from cascade.gateways.ray_serve.context import Refused
from cascade.gateways.ray_serve.ingress import Ingress
from cascade.gateways.ray_serve.settings import Settings
from cascade.serve import tokens
from cascade.serve.identity import Scope
from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest, ModerateStreamRequest
from cascade.v1.check_pb2 import CheckRequest
from cascade.v1.policy_service_pb2 import GetPolicyRequest, UpdatePolicyRequest

TEXTS = ["How do I keep tomato plants alive in a cold spring?", "How do I kill a Python process?", "word " * 400]
POLICY = 'schema = 1\nname = "default"\n[stage1]\nunsafe_threshold = 0.9\n'
CODE = grpc.StatusCode


class ProxyContext:
    """Stands in for Ray's."""

    def __init__(self, **metadata: str) -> None:
        self.metadata = list(metadata.items())
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: dict[str, Any] = {}

    def peer(self) -> str:
        return "ipv4:192.0.2.7:41952"

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self.metadata

    def auth_context(self) -> dict[str, Any]:
        return {}

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing: list[tuple[str, Any]]) -> None:
        self.trailing = dict(trailing)

    def found(self, kind: type) -> Any:
        """The detail of that kind in the status."""
        status = Status.FromString(self.trailing[GRPC_DETAILS_METADATA_KEY])
        assert (status.code, status.message) == (self.code.value[0], self.details)
        detail = kind()
        assert any(packed.Unpack(detail) for packed in status.details)
        return detail


async def opened(**settings: Any) -> Ingress:
    ingress = Ingress(Settings(stage2="none", **settings), None, b"")
    await ingress.reconfigure({})
    return ingress


async def messages(*found: Any) -> AsyncIterator[bytes]:
    for message in found:
        yield message if isinstance(message, bytes) else message.SerializeToString()


async def call(ingress: Ingress, method: str, request: Any, context: ProxyContext | None = None) -> Any:
    if not isinstance(request, bytes | HealthCheckRequest | HealthListRequest):
        request = request.SerializeToString()
    return await getattr(ingress, method)(request, context or ProxyContext())


async def test_it_answers_as_the_pipeline_does() -> None:
    ingress, pipeline = await opened(), build_pipeline(stage2_spec=None)
    requests = [CheckRequest(request_id=str(index), text=text) for index, text in enumerate(TEXTS)]
    expected = [await pipeline.check(request) for request in requests]
    single = [await call(ingress, "Check", request) for request in requests]
    batch = await call(ingress, "BatchCheck", BatchCheckRequest(requests=requests))
    asked = messages(*(CheckStreamRequest(request=request) for request in requests))
    streamed = {item.request_id: item.response async for item in ingress.CheckStream(asked, ProxyContext())}
    for index, answer in enumerate(expected):
        found = [single[index], batch.items[index].response, streamed[str(index)]]
        assert {(item.verdict, item.policy_revision) for item in found} == {(answer.verdict, answer.policy_revision)}
        assert [item.unsafe_probability for item in found] == pytest.approx([answer.unsafe_probability] * 3, abs=0.02)
    await pipeline.close()


async def test_a_refused_call_has_its_status_with_details() -> None:
    ingress = await opened()
    for request, code, reason, field in [
        (CheckRequest(text=""), CODE.INVALID_ARGUMENT, "INVALID_REQUEST", "text"),
        (b"\x12\x02\xff\xfe", CODE.INVALID_ARGUMENT, "INVALID_REQUEST", "text"),
        (b"no message", CODE.INVALID_ARGUMENT, "INVALID_REQUEST", ""),
        (CheckRequest(text="x" * 1_000_001), CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", ""),
        (CheckRequest(text="x", policy="nobody"), CODE.NOT_FOUND, "NOT_FOUND", ""),
    ]:
        context = ProxyContext()
        answer = await call(ingress, "Check", request, context)
        assert answer.SerializeToString() == b""
        assert context.code is code
        assert context.found(ErrorInfo).reason == reason
        if field:
            assert context.found(BadRequest).field_violations[0].field == field
    context = ProxyContext()
    await call(ingress, "Check", CheckRequest(text=TEXTS[0]), context)
    assert (context.code, context.trailing) == (None, {})


async def test_an_item_of_a_stream_has_its_own_error_and_the_stream_goes_on() -> None:
    ingress = await opened()
    asked = messages(CheckStreamRequest(request=CheckRequest(request_id="a")), b"no message", CheckStreamRequest())
    items = [item async for item in ingress.CheckStream(asked, ProxyContext())]
    assert [item.error.code for item in items] == [CODE.INVALID_ARGUMENT.value[0]] * 3
    assert all(item.error.details for item in items)


async def test_a_stream_that_fails_ends_with_its_code() -> None:
    ingress, context = await opened(), ProxyContext()
    stream = ingress.ModerateStream(messages(ModerateStreamRequest(delta="x")), context)
    with pytest.raises(Refused, match="start"):
        await anext(stream)
    assert context.code is CODE.INVALID_ARGUMENT
    assert context.found(BadRequest).field_violations[0].field == "start"


async def test_a_stream_is_written_no_faster_than_it_is_read_and_ends_with_its_reader() -> None:
    ingress = await opened()
    sent, many = 0, asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            if sent == 32:
                many.set()
            yield CheckStreamRequest(request=CheckRequest(text=TEXTS[0])).SerializeToString()

    stream = ingress.CheckStream(endless(), ProxyContext())
    for _ in range(3):
        await anext(stream)
    await many.wait()
    held = sent
    await asyncio.sleep(0.2)
    assert held <= sent < 64
    before = asyncio.all_tasks()
    await stream.aclose()
    assert len(asyncio.all_tasks()) < len(before)


async def test_health_is_told_under_its_own_types() -> None:
    ingress = await opened()
    serving = HealthCheckResponse.SERVING
    for name in ("", "cascade.v1.CascadeService", "stage1"):
        assert (await call(ingress, "Check", HealthCheckRequest(service=name))).status == serving
    assert set((await call(ingress, "List", HealthListRequest())).statuses) >= {"", "stage1"}
    context = ProxyContext()
    await call(ingress, "Check", HealthCheckRequest(service="nobody"), context)
    assert context.code is CODE.NOT_FOUND
    watching = ingress.Watch(HealthCheckRequest(service="stage1"), ProxyContext())
    assert (await anext(watching)).status == serving
    await watching.aclose()


async def test_policies_change_with_the_configuration_and_never_by_a_call(tmp_path: Any) -> None:
    token, entry = tokens.new([Scope.CHECK, Scope.POLICY], None, None, None)
    (tmp_path / "tokens").write_text(entry.line("boss") + "\n")
    (tmp_path / "tokens").chmod(0o600)
    ingress = await opened(token_file=str(tmp_path / "tokens"))
    bearer = {"authorization": f"Bearer {token}"}
    before = await call(ingress, "Check", CheckRequest(text=TEXTS[0]), ProxyContext(**bearer))
    await ingress.reconfigure({"policies": [POLICY]})
    after = await call(ingress, "Check", CheckRequest(text=TEXTS[0]), ProxyContext(**bearer))
    assert before.policy_revision != after.policy_revision
    shown = await call(ingress, "GetPolicy", GetPolicyRequest(), ProxyContext(**bearer))
    assert shown.policy.revision == after.policy_revision
    for bad, error in [({"policies": ["schema = 2"]}, PolicyError), ({"policy": POLICY}, ValueError)]:
        with pytest.raises(error):
            await ingress.reconfigure(bad)
    still = await call(ingress, "Check", CheckRequest(text=TEXTS[0]), ProxyContext(**bearer))
    assert still.policy_revision == after.policy_revision
    context = ProxyContext(**bearer)
    await call(ingress, "UpdatePolicy", UpdatePolicyRequest(toml=POLICY, expected_revision="x"), context)
    assert context.code is CODE.UNIMPLEMENTED
    stranger = ProxyContext()
    await call(ingress, "Check", CheckRequest(text=TEXTS[0]), stranger)
    assert stranger.code is CODE.UNAUTHENTICATED


async def test_without_tokens_everybody_may_check_and_no_more() -> None:
    ingress, context = await opened(), ProxyContext()
    await call(ingress, "GetPolicy", GetPolicyRequest(), context)
    assert context.code is CODE.PERMISSION_DENIED


def test_the_proxys_server_gets_every_method_with_bytes() -> None:
    added: dict[str, Any] = {}

    class Server:
        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            added.update(handlers[0]._method_handlers)

        def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
            pass

    class Servicer:
        def __getattr__(self, name: str) -> str:
            return name

    contract.add_services(Servicer(), Server())
    assert set(added) == {contract.path_of(method) for method in contract.methods()}
    assert {handler.request_deserializer for handler in added.values()} == {None}
    names = [path.rpartition("/")[2] for path in added]
    assert len(names) == len(set(names)), "Ray tells methods apart by these alone"
    assert all(hasattr(Ingress, name) for name in names)


def test_settings_refuse_what_they_do_not_know() -> None:
    for wrong in ({"stage3": "x"}, {"threads": 0}, {"device": "tpu"}, {"runtime": "magic"}):
        with pytest.raises(ValidationError):
            Settings(**wrong)
