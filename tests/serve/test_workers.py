"""Two workers that answer as one server: changes, counts, quotas, records, deaths and the way down."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade.v1.check_pb2 import (
    ACTION_BLOCK,
    ACTION_REVIEW,
    ROUTE_REASON_STAGE2_UNAVAILABLE,
    VERDICT_SAFE,
    VERDICT_UNSAFE,
    CheckOptions,
    CheckRequest,
)
from cascade.v1.model_service_pb2 import ReloadModelsRequest
from cascade.v1.policy_service_pb2 import GetPolicyRequest, ListPolicyRevisionsRequest
from stages.registry import EMBEDDED
from tests.serve.calling import fails, stubs
from tests.serve.conftest import COMMAND, FAKE_SERVER, ServerProcess, start
from tests.serve.load import connect, load
from tests.serve.test_gpu_host import alive, gone
from tests.serve.test_lifecycle import logged
from tests.serve.test_observability import samples as scrape
from tests.serve.test_reload import BLOCK, REVIEW, SAFE, UNSAFE, put, update, wait_until

CODE = grpc.StatusCode
CHECK = ("cascade_requests_total", ("code", "OK"), ("method", "cascade.v1.CascadeService/Check"))
FOREIGN = CheckRequest(text="水壶还开着吗？", options=CheckOptions(bypass_cache=True))  # stage 1 does not read it
RATE = 0.2  # so few that even a slow machine asks for more
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def children(server, module):
    """The processes that a server has started of a module, by id."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            words = (path.parent / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == server.process.pid and module.encode() in words:
            found.append(int(path.parent.name))
    return sorted(pid for pid in found if alive(pid))


def workers(server):
    return children(server, "cascade.serve.worker")


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(json.dumps(UNSAFE))
    return tmp_path / "model"


def test_a_change_is_made_by_all_workers_or_by_none(fake_server, model, everywhere, tmp_path):
    server = fake_server(workers=2, alone=1, folder=model, watch=0, state_dir=tmp_path / "state")
    calls = everywhere(server)
    first = calls[0]
    with load(server.port, text="zeppelin", clients=6, retry=False) as clients:
        clients.wait(20)
        first.policy.UpdatePolicy(update(REVIEW, BLOCK.revision))
        told = {call.policy.GetPolicy(GetPolicyRequest()).policy.revision for call in calls}
        used = {call.cascade.Check(CheckRequest(text="x")).policy_revision for call in calls}
        assert told == used == {REVIEW.revision}
        fails(CODE.FAILED_PRECONDITION, calls[1].policy.UpdatePolicy, update(BLOCK, BLOCK.revision))
        clients.wait(20)
        put(model / "model.json", json.dumps(SAFE | {"refused_once": 1}))  # one of the two cannot load it
        refused = fails(CODE.FAILED_PRECONDITION, first.models.ReloadModels, ReloadModelsRequest())
        assert "cannot load" in refused.message
        assert {call.cascade.Check(CheckRequest(text="zeppelin")).verdict for call in calls} == {VERDICT_UNSAFE}
        clients.wait(20)
        assert first.models.ReloadModels(ReloadModelsRequest(), timeout=60).models[0].revision == "v2"
        assert {call.cascade.Check(CheckRequest(text="zeppelin")).verdict for call in calls} == {VERDICT_SAFE}
        clients.wait(20)
    assert clients.errors == []
    seen = {(one.policy_revision, one.stages[0].revision, one.verdict, one.action) for one in clients.answers}
    assert {(revision, action) for revision, _, verdict, action in seen if verdict == VERDICT_UNSAFE} == {
        (BLOCK.revision, ACTION_BLOCK),
        (REVIEW.revision, ACTION_REVIEW),
    }
    assert {(stage, verdict) for _, stage, verdict, _ in seen} == {("v1", VERDICT_UNSAFE), ("v2", VERDICT_SAFE)}
    listed = [call.policy.ListPolicyRevisions(ListPolicyRevisionsRequest()).revisions for call in calls]
    assert all([one.policy.revision for one in rows] == [REVIEW.revision, BLOCK.revision] for rows in listed)
    worker, _ = workers(server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: any(line["message"] == "a worker is back" for line in logged(server)))
    assert len(set(workers(server)) - {worker}) == 2
    again = everywhere(server)
    answers = [call.cascade.Check(CheckRequest(text="zeppelin")) for call in again]
    assert {(one.policy_revision, one.stages[0].revision) for one in answers} == {(REVIEW.revision, "v2")}
    pids = workers(server)
    server.kill()
    assert all(gone(pid) for pid in pids), "without a supervisor they end by themselves"


def test_counts_are_one_servers_and_neither_sigkill_nor_sigterm_loses_calls(fake_server, tmp_path):
    server = fake_server(workers=2, slow=0.7, audit=tmp_path / "audit.jsonl")
    with load(server.port, clients=8) as clients:
        clients.wait(40)
        before = scrape(server)
        victim = workers(server)[0]
        os.kill(victim, signal.SIGKILL)
        clients.wait(40)
        wait_until(lambda: any(line["message"] == "a worker is back" for line in logged(server)))
        clients.wait(40)
    assert clients.errors == [], "0 lost after retry"
    assert Counter(answer.verdict for answer in clients.answers) == {VERDICT_UNSAFE: len(clients.answers)}
    after = scrape(server)
    assert 0 < before[CHECK] <= after[CHECK], "counts do not go back with the one who counted"
    assert after["cascade_workers",] == 2
    assert after["cascade_worker_restarts_total",] == 1
    assert {key[1] for key in after if key[0] == "cascade_requests_in_flight"} == {("worker", "0"), ("worker", "1")}
    assert all(value == 0 for key, value in after.items() if key[0] == "cascade_requests_in_flight")
    assert {key[1] for key in after if key[0] == "process_resident_memory_bytes"} == {
        ("worker", "0"), ("worker", "1"), ("worker", "supervisor"),
    }  # fmt: skip
    assert after["cascade_policy_info", ("policy", "default"), ("revision", BLOCK.revision)] == 1
    ended = [line for line in logged(server) if line["message"] == "a worker ended"]
    assert [(line["pid"], line["exit_code"]) for line in ended] == [(victim, -signal.SIGKILL)]
    records = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    audited = {record["id"] for record in records if record["code"] == "OK"}
    assert audited >= {answer.request_id for answer in clients.answers}, "both workers' answers are in the one file"
    drains(server)


def drains(server):
    """SIGTERM ends what is under way in both workers, and then both of them and the server."""
    pids = workers(server)
    with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        channels = [stack.enter_context(connect(server.port, retry=False)) for _ in range(8)]
        watched = health_pb2_grpc.HealthStub(channels[0]).Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == SERVING
        request = CheckRequest(text="slow")
        checks = [pool.submit(stubs(channel).cascade.Check, request, timeout=60) for channel in channels]

        def begun():
            taken = [value for key, value in scrape(server).items() if key[0] == "cascade_requests_in_flight"]
            return sum(taken) + sum(check.done() for check in checks)

        wait_until(lambda: begun() == len(checks))
        server.terminate()
        assert next(watched).status == NOT_SERVING
        assert [check.result().verdict for check in checks] == [VERDICT_SAFE] * len(checks)
    assert server.wait(60) == (0, "")
    assert all(gone(pid) for pid in pids)
    drained = [line["worker"] for line in logged(server) if line["message"] == "stopped" and "worker" in line]
    assert sorted(drained) == [0, 1]
    assert "calls were cut off" not in server.log.read_text()


def test_a_quota_is_for_all_workers_together(fake_server, everywhere):
    server = fake_server(workers=2, rate=RATE)
    outcomes = Counter()
    calls = everywhere(server)
    started = time.monotonic()
    for _ in range(4):
        for call in calls:
            try:
                call.cascade.Check(CheckRequest(text="hello"), timeout=60)
                outcomes["taken"] += 1
            except grpc.RpcError as error:
                outcomes[error.code()] += 1
    assert set(outcomes) == {"taken", CODE.RESOURCE_EXHAUSTED}
    assert 1 <= outcomes["taken"] <= 1 + RATE * (time.monotonic() - started)


def test_a_server_whose_workers_cannot_load_does_not_start(tmp_path):
    with (tmp_path / "log").open("w") as log:
        arguments = ["--workers", "2", "--folder", str(tmp_path / "nothing")]
        with start([*FAKE_SERVER, *arguments], tmp_path, log) as process:
            assert process.communicate(timeout=100)[0] == ""
    assert process.returncode == 1
    assert "CascadeError" in (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stage_2_has_one_process_which_may_be_replaced_and_may_die(tmp_path, everywhere):
    """The real command and models. Stage 1 does not read the text, so that stage 2 is asked."""
    hazard = tmp_path / "hazard"
    shutil.copytree(EMBEDDED["hazard"], hazard)
    policy = tmp_path / "policy.toml"
    policy.write_text('schema = 1\nname = "default"\n[merge]\nrule = "max"\nsegments = "max"\n')
    command = [*COMMAND, "serve", "--port", "0", "--metrics-port", "0", "--workers", "2", "--no-watch"]
    server = ServerProcess([*command, "--policy", str(policy), "--stage2", str(hazard)], tmp_path, seconds=300)
    try:
        calls = everywhere(server)
        health = [health_pb2_grpc.HealthStub(channel) for channel in everywhere.channels]

        def answers():
            return [call.cascade.Check(FOREIGN, timeout=120) for call in calls]

        def stage2():
            return {one.Check(health_pb2.HealthCheckRequest(service="stage2"), timeout=60).status for one in health}

        before = answers()
        assert {(len(one.stages), one.degraded) for one in before} == {(2, False)}
        (first,) = children(server, "cascade.serve.stage_process")
        (hazard / "manifest.json").touch()
        with load(server.port, text=FOREIGN.text, clients=2, retry=False) as clients:
            assert calls[0].models.ReloadModels(ReloadModelsRequest(), timeout=300).changed
            clients.wait(2)
        assert clients.errors == []
        assert {answer.degraded for answer in clients.answers} == {False}
        assert gone(first)
        (process,) = children(server, "cascade.serve.stage_process")
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: stage2() == {NOT_SERVING})
        dead = answers()
        assert {(one.degraded, one.action, one.route.reason) for one in dead} == {
            (True, ACTION_BLOCK, ROUTE_REASON_STAGE2_UNAVAILABLE)
        }
        wait_until(lambda: stage2() == {SERVING}, seconds=200)
        wait_until(lambda: not any(one.degraded for one in answers()), seconds=60)
        assert {(one.verdict, one.unsafe_probability) for one in answers()} == {
            (one.verdict, one.unsafe_probability) for one in before
        }
    finally:
        server.close()
