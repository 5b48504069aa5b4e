"""What the real command says of itself: one line on stdout, JSON without texts on stderr, metrics."""

import json
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cascade.v1.cascade_service_pb2 import BatchCheckRequest
from cascade.v1.check_pb2 import CheckRequest
from tests.serve.calling import fails, raw, stubs


def scrape(server):
    """Every sample by name and labels."""
    with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    return {(sample.name, *sorted(sample.labels.items())): sample.value for one in families for sample in one.samples}


def test_logs_are_json_with_ids_and_without_texts(served):
    call, secret = stubs(served.channel), "zanzibar-marmalade"
    call.cascade.Check(CheckRequest(request_id="logged-1", text=secret, options={"explain": True}))
    fails(grpc.StatusCode.NOT_FOUND, call.cascade.Check, CheckRequest(request_id="logged-2", text=secret, policy="no"))
    fails(
        grpc.StatusCode.INVALID_ARGUMENT,
        raw(served.channel, "CascadeService/Check"),
        CheckRequest(request_id="logged-3", text=f"{secret} MARK")
        .SerializeToString()
        .replace(b"MARK", b"\xff\xff\xff\xff"),
    )
    lines = {}
    for line in served.log.read_text().splitlines():
        record = json.loads(line)
        assert {"time", "level", "logger", "message"} <= record.keys()
        lines[record.get("request_id")] = record
    assert lines["logged-1"]["message"] == "checked"
    assert lines["logged-1"]["verdict"].startswith("VERDICT_")
    assert (lines["logged-2"]["code"], lines["logged-2"]["reason"]) == ("NOT_FOUND", "NOT_FOUND")
    assert lines["logged-3"]["code"] == "INVALID_ARGUMENT"
    assert "zanzibar" not in served.log.read_text()


def test_metrics_count_calls_phases_and_verdicts(served):
    call = stubs(served.channel)
    before = scrape(served)
    for _ in range(3):
        verdict = call.cascade.Check(CheckRequest(text="Good morning, how are you?")).verdict
    fails(grpc.StatusCode.INVALID_ARGUMENT, call.cascade.Check, CheckRequest(text=""))
    call.cascade.BatchCheck(BatchCheckRequest(requests=[CheckRequest(text="Good evening!"), CheckRequest(text="")]))
    after = scrape(served)

    def grown(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0.0)

    check, batch = "cascade.v1.CascadeService/Check", "cascade.v1.CascadeService/BatchCheck"
    assert grown("cascade_requests_total", method=check, code="OK") == 3
    assert grown("cascade_requests_total", method=check, code="INVALID_ARGUMENT") == 1
    assert grown("cascade_requests_total", method=batch, code="OK") == 1
    assert grown("cascade_items_total", method=batch, code="OK") == 1
    assert grown("cascade_items_total", method=batch, code="INVALID_ARGUMENT") == 1
    assert grown("cascade_latency_seconds_count", stage="all", phase="total") == 4
    for phase in ("tokenize", "queue", "infer", "total"):
        assert grown("cascade_latency_seconds_count", stage="stage1", phase=phase) == 4
    assert grown("cascade_latency_seconds_sum", stage="stage1", phase="infer") > 0
    assert verdict == 1
    assert grown("cascade_verdicts_total", verdict="VERDICT_SAFE") == 4
    assert grown("cascade_batch_windows_count", stage="stage1") >= 1
    assert after["cascade_queue_windows", ("stage", "stage1")] == 0
    assert after["cascade_requests_in_flight",] == 0
    assert after["cascade_degraded_total",] == after["cascade_truncated_total",] == 0
    assert after["process_resident_memory_bytes",] > 0


def test_only_metrics_are_served_there(served):
    with pytest.raises(HTTPError):
        urlopen(f"http://127.0.0.1:{served.metrics_port}/metrics", data=b"x")
