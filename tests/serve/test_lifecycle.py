"""Health, overload, faults and the way down, on servers whose models are fakes."""

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest
from cascade.v1.check_pb2 import VERDICT_SAFE, CheckRequest
from tests.serve.calling import SERVICES, fails, stubs, unpack
from tests.serve.conftest import FAKE_SERVER, start, whole_lines

CODE = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(server):
    return health_pb2_grpc.HealthStub(server.channel)


def named(name):
    return health_pb2.HealthCheckRequest(service=name)


def logged(server):
    return whole_lines(server.log)


def wait_for(server, sample):
    """Waits until the server's metrics have this line."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as page:
            if sample in page.read().decode().splitlines():
                return
        time.sleep(0.02)
    raise AssertionError(f"never saw {sample}")


def test_health_knows_the_server_each_service_and_each_stage(served):
    stub = health(served)
    names = ["", *SERVICES, "stage1", "stage2"]
    assert {name: stub.Check(named(name)).status for name in names} == dict.fromkeys(names, SERVING)
    listed = stub.List(health_pb2.HealthListRequest()).statuses
    assert {name: answer.status for name, answer in listed.items()} == dict.fromkeys(names, SERVING)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(named("stage3"))
    assert caught.value.code() is CODE.NOT_FOUND


def test_without_stage_2_nothing_claims_that_it_is_there(fake_server):
    server = fake_server(alone=1)
    assert server.ready["stage2"] == "none"
    assert set(health(server).List(health_pb2.HealthListRequest()).statuses) == {"", *SERVICES, "stage1"}
    answer = stubs(server.channel).cascade.Check(CheckRequest(text="terrible"))
    assert [stage.name for stage in answer.stages] == ["stage1"]
    assert not answer.degraded


def test_sigterm_finishes_what_is_under_way(fake_server):
    server = fake_server(delay=0.7)
    call = stubs(server.channel)
    watched = health(server).Watch(named("stage1"))
    assert next(watched).status == SERVING
    first = threading.Event()

    def requests():
        yield CheckStreamRequest(request=CheckRequest(request_id="streamed", text="hello"))
        first.wait(20)  # the stream stays open: the server has to end it by itself

    with ThreadPoolExecutor(2) as pool:
        check = pool.submit(call.cascade.Check, CheckRequest(request_id="unary", text="hello"), timeout=20)
        stream = call.cascade.CheckStream(requests(), timeout=20)
        wait_for(server, 'cascade_queue_windows{stage="stage1"} 1.0')  # one is being scored, the other one waits
        server.terminate()
        assert next(watched).status == NOT_SERVING
        assert check.result().request_id == "unary"
        assert next(stream).request_id == "streamed"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        first.set()
    assert caught.value.code() is CODE.UNAVAILABLE
    assert "another" in caught.value.details()
    assert server.wait(5) == (0, "")
    with socket.socket() as again:  # the port is free at once, without SO_REUSEPORT
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))


def test_sigterm_waits_no_longer_than_it_may(fake_server):
    server = fake_server(delay=4, drain_s=0.5)
    with ThreadPoolExecutor(1) as pool:
        check = pool.submit(stubs(server.channel).cascade.Check, CheckRequest(text="hello"), timeout=20)
        wait_for(server, "cascade_requests_in_flight 1.0")
        started = time.monotonic()
        server.terminate()
        with pytest.raises(grpc.RpcError):
            check.result()
        assert time.monotonic() - started < 3
    assert server.wait(20) == (0, "")
    assert any(line["message"] == "calls were cut off" for line in logged(server))


def test_sigint_stops_an_idle_server_at_once(fake_server):
    server = fake_server()
    assert next(health(server).Watch(named(""))).status == SERVING  # a watcher does not hold it up
    started = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.wait() == (0, "")
    assert time.monotonic() - started < 5
    assert [line["message"] for line in logged(server)][-2:] == ["draining", "stopped"]


def test_sigterm_while_models_load(tmp_path):
    with (tmp_path / "log").open("w") as log, start([*FAKE_SERVER, "--load-s", "1"], tmp_path, log) as process:
        while "loading" not in (tmp_path / "log").read_text():
            time.sleep(0.02)
        process.terminate()
        assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 0


def test_a_stage_that_cannot_answer_its_warm_up_is_never_ready(tmp_path):
    with (tmp_path / "log").open("w") as log, start([*FAKE_SERVER, "--broken", "1"], tmp_path, log) as process:
        assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 1
    assert "StageError" in (tmp_path / "log").read_text()


def test_a_full_queue_says_when_to_come_again(fake_server):
    server = fake_server(delay=0.5, max_queue=4)
    requests = [CheckRequest(request_id=str(index), text="hello") for index in range(12)]
    items = stubs(server.channel).cascade.BatchCheck(BatchCheckRequest(requests=requests), timeout=60).items
    errors = [item.error for item in items if item.WhichOneof("result") == "error"]
    assert 0 < len(errors) < 12
    assert {error.code for error in errors} == {CODE.RESOURCE_EXHAUSTED.value[0]}
    info, retry = (unpack(errors[0])[kind] for kind in sorted(unpack(errors[0]), key=lambda kind: kind.__name__))
    assert info.reason == "OVERLOADED"
    assert retry.retry_delay.ToMilliseconds() > 0


def test_a_stream_is_held_back_while_its_items_wait(fake_server):
    server = fake_server(delay=2)
    sent = []

    def requests():
        for index in range(2000):
            sent.append(index)
            yield CheckStreamRequest(request=CheckRequest(request_id=str(index), text="x" * 20_000))

    stream = stubs(server.channel).cascade.CheckStream(requests(), timeout=60)
    before = -1
    while len(sent) != before:  # 40 MB in all: more than any window of HTTP/2 here lets through unread
        before = len(sent)
        time.sleep(0.5)
    assert 0 < before < 2000
    stream.cancel()


def test_a_waiting_call_hears_of_its_deadline_and_the_next_one_is_served(fake_server):
    server = fake_server(delay=0.6)
    call = stubs(server.channel)
    with ThreadPoolExecutor(4) as pool:
        late = [pool.submit(call.cascade.Check, CheckRequest(text="hello"), timeout=0.3) for _ in range(4)]
        assert {each.exception().code() for each in late} == {CODE.DEADLINE_EXCEEDED}
    assert call.cascade.Check(CheckRequest(text="hello"), timeout=20).verdict == VERDICT_SAFE
    wait_for(server, 'cascade_batch_windows_sum{stage="stage1"} 2.0')  # one that had begun, and this one


def test_a_bug_is_an_incident_without_the_text(fake_server):
    server = fake_server(bug="purple-elephant")
    call = stubs(server.channel)
    failed = fails(CODE.INTERNAL, call.cascade.Check, CheckRequest(request_id="r-1", text="purple-elephant"))
    assert failed.info.reason == "INTERNAL"
    assert "purple" not in failed.message
    item = call.cascade.BatchCheck(BatchCheckRequest(requests=[CheckRequest(request_id="r-2", text="x")])).items[0]
    assert item.error.code == CODE.INTERNAL.value[0]
    incidents = {line["request_id"]: line for line in logged(server) if line["message"] == "call failed"}
    assert incidents["r-1"]["incident"] == failed.info.metadata["incident"]
    assert incidents["r-2"]["incident"] == unpack(item.error)[type(failed.info)].metadata["incident"]
    assert any("fake_models.py" in frame for frame in incidents["r-1"]["traceback"])
    assert "purple" not in server.log.read_text()
