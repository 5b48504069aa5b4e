"""What the real command says of itself: one line on stdout, JSON without texts on stderr, metrics."""

import json
import time
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cascade.v1.cascade_service_pb2 import BatchCheckRequest
from cascade.v1.check_pb2 import CheckRequest, Verdict
from tests.serve.calling import fails, raw, stubs


def scrape(server):
    """Every sample by name and labels, when the books, which are kept after an answer is sent, are up to date."""
    last, page = {}, samples(server)
    while last != {name: value for name, value in page.items() if name[0].startswith("cascade_")}:
        last = {name: value for name, value in page.items() if name[0].startswith("cascade_")}
        time.sleep(0.1)
        page = samples(server)
    return page


def samples(server):
    """Every sample by name and labels, as they are now."""
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
        lines[record.get("request_id"), record["message"]] = record
    assert lines["logged-1", "checked"]["verdict"].startswith("VERDICT_")
    refused = lines["logged-2", "call refused"]
    assert (refused["code"], refused["reason"]) == ("NOT_FOUND", "NOT_FOUND")
    assert lines["logged-3", "call refused"]["code"] == "INVALID_ARGUMENT"
    calls = [lines[f"logged-{number}", "call"] for number in (1, 2, 3)]
    assert [line["code"] for line in calls] == ["OK", "NOT_FOUND", "INVALID_ARGUMENT"], "at debug there is a line each"
    assert "zanzibar" not in served.log.read_text()


def test_metrics_count_calls_phases_and_verdicts(served):
    call = stubs(served.channel)
    before = scrape(served)
    for _ in range(3):
        request = CheckRequest(text="Good morning, how are you?", options={"bypass_cache": True})
        verdict = call.cascade.Check(request).verdict
    fails(grpc.StatusCode.INVALID_ARGUMENT, call.cascade.Check, CheckRequest(text=""))
    call.cascade.BatchCheck(
        BatchCheckRequest(requests=[CheckRequest(text="Good evening to you!"), CheckRequest(text="")])
    )
    after = scrape(served)

    def grown(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0.0)

    check, batch = "cascade.v1.CascadeService/Check", "cascade.v1.CascadeService/BatchCheck"
    assert grown("cascade_requests_total", method=check, code="OK") == 3
    assert grown("cascade_requests_total", method=check, code="INVALID_ARGUMENT") == 1
    assert grown("cascade_requests_total", method=batch, code="OK") == 1
    assert grown("cascade_request_seconds_count", method=check) == 4
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
    assert after["cascade_truncated_total",] == 0
    assert not any(name[0] == "cascade_degraded_total" for name in after)
    assert after["process_resident_memory_bytes",] > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_are_of_all_workers_together(fake_server, everywhere, workers):
    server = fake_server(workers=workers)
    calls, before = everywhere(server), scrape(server)
    for call in calls:
        for text in ("hello", "terrible"):
            call.cascade.Check(CheckRequest(text=text, options={"bypass_cache": True}), timeout=60)
        fails(grpc.StatusCode.INVALID_ARGUMENT, call.cascade.Check, CheckRequest(text=""))
        call.cascade.BatchCheck(BatchCheckRequest(requests=[CheckRequest(text="")]), timeout=60)
    after = scrape(server)

    def grown(name, **labels):
        key = (name, *sorted(labels.items()))
        return (after[key] - before.get(key, 0.0)) / len(calls)

    check, batch = "cascade.v1.CascadeService/Check", "cascade.v1.CascadeService/BatchCheck"
    assert grown("cascade_requests_total", method=check, code="OK") == 2
    assert grown("cascade_requests_total", method=check, code="INVALID_ARGUMENT") == 1
    assert grown("cascade_requests_total", method=batch, code="OK") == 1
    assert grown("cascade_request_seconds_count", method=check) == 3
    assert grown("cascade_items_total", method=batch, code="INVALID_ARGUMENT") == 1
    assert grown("cascade_latency_seconds_count", stage="stage1", phase="infer") == 2
    assert grown("cascade_verdicts_total", verdict="VERDICT_SAFE") == 1
    assert grown("cascade_verdicts_total", verdict="VERDICT_UNSAFE") == 1
    in_flight = {key: value for key, value in after.items() if key[0] == "cascade_requests_in_flight"}
    assert len(in_flight) == workers
    assert set(in_flight.values()) == {0}


def test_metrics_tell_hits_and_count_no_work_for_them(served):
    call, request = stubs(served.channel), CheckRequest(text="How do I grow tomatoes on a balcony?")
    verdict = Verdict.Name(call.cascade.Check(request).verdict)
    before = scrape(served)
    assert call.cascade.Check(request).stages[0].infer_ms == 0
    after = scrape(served)

    def grown(*key):
        return after[key] - before[key]

    assert grown("cascade_cache_requests_total", ("outcome", "hit")) == 1
    assert grown("cascade_cache_requests_total", ("outcome", "miss")) == 0
    assert grown("cascade_verdicts_total", ("verdict", verdict)) == 1
    assert grown("cascade_latency_seconds_count", ("phase", "total"), ("stage", "all")) == 1
    assert grown("cascade_latency_seconds_count", ("phase", "infer"), ("stage", "stage1")) == 0
    assert after["cascade_cache_entries",] >= 1
    assert 0 < after["cascade_cache_bytes",] < 32 * 2**20


def test_metrics_tell_what_is_served(served):
    samples = scrape(served)
    models = [dict(key[1:]) for key in samples if key[0] == "cascade_model_info"]
    assert {f"{model['name']}@{model['revision']}" for model in models} == {
        served.ready["stage1"],
        served.ready["stage2"],
    }
    assert [key for key in samples if key[0] == "cascade_build_info"]


def test_only_metrics_are_served_there(served):
    with pytest.raises(HTTPError):
        urlopen(f"http://127.0.0.1:{served.metrics_port}/metrics", data=b"x")
