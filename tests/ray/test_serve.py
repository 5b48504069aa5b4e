"""The Ray Serve application on a local cluster: ``serve run`` of deploy/ray/serve.yaml, over real sockets."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import psutil
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest, ModerateStart, ModerateStreamRequest
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckRequest, CheckResponse
from tests.ray import cluster
from tests.serve.conftest import COMMAND, ServerProcess

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: `make ray`"),
    pytest.mark.slow,
    pytest.mark.timeout(1500),
]

CODE = grpc.StatusCode
# What is lost with a replica of the ingress: Ray's proxy says INTERNAL, without a reason of ours. A check changes
# nothing, so that it can be repeated.
AGAIN = (CODE.UNAVAILABLE, CODE.RESOURCE_EXHAUSTED, CODE.INTERNAL)
TOPICS = (
    "keep tomato plants alive",
    "kill a Python process",
    "steal bank passwords",
    "bake bread without salt",
    "build a weapon from kitchen tools",
    "insult a neighbour so that it hurts",
    "find a doctor who speaks Polish",
    "hide from the police for a month",
    "出門前要帶什麼",
    "убить дракона в игре",
)
FORMS = ("How do I {}?", "Tell me how to {} in {} steps.", "I was asked to {} {} times, and I hate it.")


def texts(count: int) -> list[str]:
    """Texts of many kinds, each once."""
    return [
        f"{FORMS[index % 3].format(TOPICS[index % len(TOPICS)], index)} ({index})" + " and so on" * (index % 40)
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The application of the file that people deploy; only ports and sizes are this test's."""
    folder = tmp_path_factory.mktemp("ray")
    command, address = cluster.application(folder, replicas=2)
    log = folder / "log"
    with cluster.started(command, folder, log) as root, grpc.insecure_channel(address) as channel:
        stub = CascadeServiceStub(channel)
        wait_for(root, lambda: stub.Check(CheckRequest(text="Is the kettle on?"), timeout=60), log)
        yield SimpleNamespace(root=root, channel=channel, stub=stub)


def wait_for(root: psutil.Process, call: Callable[[], Any], log: Path, seconds: float = 900) -> None:
    """Returns when a call is answered."""
    until = time.monotonic() + seconds
    while root.is_running() and time.monotonic() < until:
        try:
            call()
        except grpc.RpcError:
            time.sleep(1)
        else:
            return
    pytest.fail(f"the application does not answer:\n{log.read_text()[-4000:]}")


def patiently(call: Callable[[], Any], seconds: float = 240) -> tuple[Any, int]:
    """What a call answers, tried again as long as it is worth it, and the number of tries."""
    until, tries = time.monotonic() + seconds, 0
    while True:
        tries += 1
        try:
            return call(), tries
        except grpc.RpcError as error:
            if error.code() not in AGAIN or time.monotonic() > until:
                raise
            time.sleep(min(2.0, 0.1 * 2**tries))


def details(error: grpc.RpcError, kind: type) -> Any:
    status, found = rpc_status.from_call(error), kind()
    assert any(packed.Unpack(found) for packed in status.details)
    return found


def said(answer: CheckResponse) -> tuple[Any, ...]:
    """What an answer says, without times, devices and scores, which are compared apart."""
    return answer.verdict, answer.action, answer.route.escalated, answer.route.reason, answer.policy_revision


def test_a_thousand_verdicts_are_the_local_servers(app: SimpleNamespace, tmp_path: Path) -> None:
    asked = [CheckRequest(request_id=str(index), text=text) for index, text in enumerate(texts(1000))]
    batches = [BatchCheckRequest(requests=asked[start : start + 100]) for start in range(0, 1000, 100)]

    def answers(stub: CascadeServiceStub) -> dict[str, CheckResponse]:
        items = [
            item for batch in batches for item in patiently(lambda b=batch: stub.BatchCheck(b, timeout=400))[0].items
        ]
        assert all(item.HasField("response") for item in items)
        return {item.request_id: item.response for item in items}

    with closing(ServerProcess([*COMMAND, "serve", "--port", "0"], tmp_path)) as local:
        expected = answers(CascadeServiceStub(local.channel))
    found = answers(app.stub)
    assert not any(answer.degraded for answer in found.values())
    again = answers(app.stub)
    assert [key for key in found if again[key].route.audited != found[key].route.audited] == [], (
        "one key for all replicas"
    )
    # Each draws its random audit by a secret of its own; what neither drew is to be the same.
    drawn = {key for key in expected if found[key].route.audited or expected[key].route.audited}
    assert len(drawn) < 100
    assert [key for key in expected.keys() - drawn if said(found[key]) != said(expected[key])] == []
    differ = max(
        abs(found[key].unsafe_probability - expected[key].unsafe_probability) for key in expected.keys() - drawn
    )
    assert differ < 0.02
    assert 0 < sum(answer.route.escalated for answer in found.values()) < 1000
    assert {stage.name for answer in found.values() for stage in answer.stages} == {"stage1", "stage2"}


def test_errors_have_their_details(app: SimpleNamespace) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        app.stub.Check(CheckRequest(text=""), timeout=60)
    assert caught.value.code() is CODE.INVALID_ARGUMENT
    assert details(caught.value, BadRequest).field_violations[0].field == "text"
    assert details(caught.value, ErrorInfo).reason == "INVALID_REQUEST"
    raw = app.channel.unary_unary("/cascade.v1.CascadeService/Check")
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"no message", timeout=60)
    assert details(caught.value, ErrorInfo).reason == "INVALID_REQUEST"
    items = app.stub.BatchCheck(BatchCheckRequest(requests=[CheckRequest(text="x"), CheckRequest()]), timeout=60).items
    assert [item.WhichOneof("result") for item in items] == ["response", "error"]


def test_streams(app: SimpleNamespace) -> None:
    answered = threading.Event()

    def requests() -> Iterator[CheckStreamRequest]:
        yield CheckStreamRequest(request=CheckRequest(request_id="first", text="hello there"))
        assert answered.wait(60), "the answer comes while the stream is open"
        for index in range(20):
            yield CheckStreamRequest(request=CheckRequest(request_id=str(index), text="hello" if index else ""))

    stream = app.stub.CheckStream(requests(), timeout=120)
    assert next(stream).request_id == "first"
    answered.set()
    rest = {item.request_id: item for item in stream}
    assert rest.keys() == {str(index) for index in range(20)}
    assert rest["0"].error.details
    said_so_far = [
        ModerateStreamRequest(start=ModerateStart()),
        *(ModerateStreamRequest(delta="hello ") for _ in range(9)),
    ]
    states = list(app.stub.ModerateStream(iter([*said_so_far, ModerateStreamRequest(end={})]), timeout=120))
    assert states[-1].released_upto == 9 * len("hello ")
    with pytest.raises(grpc.RpcError) as caught:
        list(app.stub.ModerateStream(iter([ModerateStreamRequest(delta="x")]), timeout=60))
    assert caught.value.code() is CODE.INVALID_ARGUMENT
    assert "start" in caught.value.details()


def test_health_and_reflection(app: SimpleNamespace) -> None:
    health = health_pb2_grpc.HealthStub(app.channel)
    for name in ("", "cascade.v1.CascadeService", "stage2"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    services = ProtoReflectionDescriptorDatabase(app.channel).get_services()
    assert {"cascade.v1.CascadeService", "grpc.health.v1.Health"} <= set(services)


@pytest.mark.parametrize("title", ["ServeReplica:cascade:Stage2", "ServeReplica:cascade:Cascade"])
def test_a_replica_that_is_killed_under_load_costs_no_answer(app: SimpleNamespace, title: str) -> None:
    asked = [CheckRequest(request_id=str(index), text=text) for index, text in enumerate(texts(200))]
    expected = {
        item.request_id: item.response.verdict
        for item in patiently(lambda: app.stub.BatchCheck(BatchCheckRequest(requests=asked), timeout=300))[0].items
    }
    (victim, *others) = cluster.named(app.root, title)
    assert others, "there are two"
    begun = threading.Event()

    def check(request: CheckRequest) -> tuple[CheckResponse, int]:
        if int(request.request_id) == 40:
            begun.set()
        return patiently(lambda: app.stub.Check(request, timeout=120))

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(check, request) for request in asked]
        assert begun.wait(300)
        victim.kill()
        answers = [future.result() for future in futures]
    assert {answer.request_id: answer.verdict for answer, _ in answers} == expected
    assert not any(answer.degraded for answer, _ in answers)
    if "Stage2" in title:  # the other replica is asked by the ingress itself
        assert max(tries for _, tries in answers) == 1
    victim.wait(60)
    until = time.monotonic() + 300
    while len(cluster.named(app.root, title)) < 2:
        assert time.monotonic() < until, "Ray starts another one"
        time.sleep(1)
    patiently(lambda: app.stub.Check(CheckRequest(text="Is the kettle on?"), timeout=120))
