"""Traces and metrics of the real command as a collector gets them, over real sockets."""

import subprocess
import sys
import time
from contextlib import suppress
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import pytest
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cascade.observe.push import to_otlp
from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest
from cascade.v1.check_pb2 import CheckRequest
from tests.observe.collector import Collector, facts
from tests.serve.calling import fails, stubs
from tests.serve.conftest import COMMAND, ServerProcess, environment, whole_lines

SECRET = "zanzibar-marmalade"


def parent(number):
    """Metadata that put a call into a trace, the trace's id, and the caller's span."""
    trace, span = f"{number:032x}", f"{number:016x}"
    return (("traceparent", f"00-{trace}-{span}-01"),), trace, span


def tree(spans):
    """The names of spans by the names of those that they lie in; outside of ours it is the caller's span id."""
    names = {span.span_id: span.name for span in spans}
    return [(names.get(span.parent_span_id, span.parent_span_id.hex()), span.name) for span in spans]


def test_a_check_over_http_is_the_same_trace(observed):
    where, method = f"http://127.0.0.1:{observed.server.http_port}/v1/check", "cascade.v1.CascadeService/Check"
    for number, body, code in ((0xB1, b'{"text": "How do I kill the process?"}', 0), (0xB2, b"{}", 3)):
        metadata, trace, caller = parent(number)
        headers = {"content-type": "application/json", **dict(metadata)}
        with suppress(HTTPError), urlopen(Request(where, body, headers), timeout=60):
            pass
        spans = observed.collector.wait_for(trace)
        assert (caller, method) in tree(spans)
        assert [facts(span)["rpc.grpc.status_code"] for span in spans if span.name == method] == [code]


def test_a_check_is_a_trace_within_the_callers(observed):
    metadata, trace, caller = parent(0xA1)
    text = f"How do I kill the process {SECRET}?"
    answer = stubs(observed.server.channel).cascade.Check(
        CheckRequest(request_id="traced-1", text=text), metadata=metadata
    )
    phases = ("tokenize", "queue", "infer")
    stages = [stage.name for stage in answer.stages]
    spans = observed.collector.wait_for(trace)
    method = "cascade.v1.CascadeService/Check"
    wanted = [(caller, method), (method, "check")]
    wanted += [pair for stage in stages for pair in [("check", stage), *((stage, phase) for phase in phases)]]
    assert sorted(tree(spans)) == sorted(wanted)
    by_name = {span.name: span for span in spans}
    assert by_name[method].kind == by_name[method].SPAN_KIND_SERVER
    assert facts(by_name[method]) == {
        "rpc.system": "grpc",
        "rpc.service": "cascade.v1.CascadeService",
        "rpc.method": "Check",
        "rpc.grpc.status_code": 0,
    }
    told = facts(by_name["check"])
    assert (told["cascade.request_id"], told["cascade.policy_revision"]) == ("traced-1", answer.policy_revision)
    assert told["cascade.verdict"].startswith("VERDICT_")
    stage1 = facts(by_name["stage1"])
    assert stage1 == {"cascade.model": answer.stages[0].model, "cascade.windows": 1}
    for span in spans:
        outer = next((other for other in spans if other.span_id == span.parent_span_id), span)
        slack = 2_000_000  # nanoseconds: phases are measured by another clock
        assert outer.start_time_unix_nano - slack <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= outer.end_time_unix_nano + slack
    infer = next(span for span in spans if span.name == "infer")
    took_ms = (infer.end_time_unix_nano - infer.start_time_unix_nano) / 1e6
    assert took_ms == pytest.approx(answer.stages[0].infer_ms, abs=0.01)


def test_an_answer_that_was_there_already_has_no_stages(observed):
    check = stubs(observed.server.channel).cascade.Check
    check(CheckRequest(text="What a fine day for a walk."))
    metadata, trace, _ = parent(0xA2)
    check(CheckRequest(text="What a fine day for a walk."), metadata=metadata)
    _, content = observed.collector.wait_for(trace)
    assert facts(content)["cascade.cache"] == "hit"


def test_errors_have_codes_and_no_texts(observed):
    metadata, trace, _ = parent(0xA3)
    call = stubs(observed.server.channel).cascade
    fails(grpc.StatusCode.NOT_FOUND, call.Check, CheckRequest(text=SECRET, policy=SECRET), metadata=metadata)
    server, content = observed.collector.wait_for(trace)
    assert facts(server)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert server.status.code == server.status.STATUS_CODE_UNSET, "a client's mistake is no error of the server"
    assert (content.status.code, content.status.message) == (content.status.STATUS_CODE_ERROR, "NOT_FOUND")
    assert not content.events, "no exception is recorded, for its message may quote"


def test_items_of_batches_and_streams_are_spans_of_their_own(observed):
    call = stubs(observed.server.channel).cascade
    requests = [CheckRequest(request_id=f"i{n}", text=f"Good morning number {n}.") for n in range(3)]
    for number, send in (
        (0xA4, lambda **how: call.BatchCheck(BatchCheckRequest(requests=requests), **how)),
        (0xA5, lambda **how: list(call.CheckStream((CheckStreamRequest(request=one) for one in requests), **how))),
    ):
        metadata, trace, _ = parent(number)
        send(metadata=metadata)
        spans = observed.collector.wait_for(trace)
        inner = [facts(span)["cascade.request_id"] for span in spans if span.name == "check"]
        assert sorted(inner) == ["i0", "i1", "i2"]


def test_a_call_without_a_trace_begins_one_and_a_malformed_parent_is_none(observed):
    def roots():
        return [span.name for span in observed.collector.spans() if not span.parent_span_id]

    before = len(roots())
    check = stubs(observed.server.channel).cascade.Check
    check(CheckRequest(request_id="root-1", text="Nice weather."))
    check(CheckRequest(request_id="root-2", text="Nice weather."), metadata=(("traceparent", "00-nonsense"),))
    until = time.monotonic() + 30
    while len(roots()) < before + 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert roots()[before:] == ["cascade.v1.CascadeService/Check"] * 2


def test_each_call_has_a_line_in_the_access_log_with_its_trace(observed):
    metadata, trace, _ = parent(0xA6)
    call = stubs(observed.server.channel).cascade
    call.Check(CheckRequest(request_id="access-1", text=SECRET), metadata=metadata)
    call.Check(CheckRequest(text=SECRET))
    fails(grpc.StatusCode.INVALID_ARGUMENT, call.Check, CheckRequest(request_id="access-2", text=""))
    lines = whole_lines(observed.server.log)
    calls = {line["request_id"]: line for line in lines if line["logger"] == "cascade.access"}
    line = calls["access-1"]
    assert (line["code"], line["method"]) == ("OK", "cascade.v1.CascadeService/Check")
    assert (line["trace_id"], line["peer"], line["level"]) == (trace, "127.0.0.1", "info")
    assert 0 < line["seconds"] < 60
    assert calls["access-2"]["code"] == "INVALID_ARGUMENT"
    assert any(len(request_id) == 32 for request_id in calls), "an id that the server made up is told, too"


def test_no_text_leaves_the_server(observed):
    metadata, trace, _ = parent(0xA7)
    stubs(observed.server.channel).cascade.Check(
        CheckRequest(text=f"{SECRET} is what I had for breakfast"), metadata=metadata
    )
    observed.collector.wait_for(trace)
    for sent in (*observed.collector.traces, *observed.collector.metrics):
        assert SECRET.encode() not in sent.SerializeToString()
    assert SECRET not in observed.server.log.read_text()
    assert observed.collector.resource()["service.name"] == "cascade-under-test"


def test_what_is_pushed_in_the_end_is_what_was_counted(tmp_path):
    collector = Collector()
    command = [*COMMAND, "serve", "--port", "0", "--stage2", "none"]
    server = ServerProcess(command, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    try:
        for text in ("Good day.", "Good day.", "Good night."):
            stubs(server.channel).cascade.Check(CheckRequest(text=text))
    finally:
        server.close()
        collector.close()
    pushed = collector.latest()
    calls = pushed["cascade_requests"].sum
    assert calls.is_monotonic
    assert [(facts(point)["code"], point.as_double) for point in calls.data_points] == [("OK", 3)]
    points = {
        (facts(p)["stage"], facts(p)["phase"]): p for p in pushed["cascade_latency_seconds"].histogram.data_points
    }
    assert points["all", "total"].count == sum(points["all", "total"].bucket_counts) == 3
    assert points["stage1", "infer"].count == 2, "one of the three was a hit"
    assert points["all", "total"].sum > 0
    assert pushed["cascade_queue_windows"].gauge.data_points[0].as_double == 0
    assert collector.spans(), "traces were on, too"


def test_a_collector_that_is_not_there_holds_nothing_up(tmp_path):
    command = [*COMMAND, "serve", "--port", "0", "--stage2", "none", "--otel-endpoint", "http://127.0.0.1:9"]
    server = ServerProcess(command, tmp_path)
    try:
        assert stubs(server.channel).cascade.Check(CheckRequest(text="Good day.")).verdict == 1
    finally:
        started = time.monotonic()
        server.close()
    assert time.monotonic() - started < 20


def test_without_the_extra_a_clear_line_and_no_server(tmp_path):
    program = "import sys; sys.modules['opentelemetry.sdk'] = None; from cascade.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--otel-endpoint", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "pip install 'safety-cascade[otel]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_endpoint_nothing_of_it_is_loaded():
    program = (
        "import sys\nimport cascade.serve.server, cascade.serve.worker, cascade.cli.serve\n"
        "from cascade.cli.observing import observe\nassert not observe(False, None).otel\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_prometheus_becomes_otlp_number_by_number():
    registry = CollectorRegistry()
    Counter("c", "A counter.", ["k"], registry=registry).labels("v").inc(3)
    Gauge("g_bytes", "A gauge.", registry=registry).set(7)
    Gauge("nan", "No number.", registry=registry).set(float("nan"))
    histogram = Histogram("h_seconds", "A histogram.", ["k"], buckets=(1, 2), registry=registry)
    for label, value in (("a", 0.5), ("a", 1.5), ("a", 1.7), ("a", 9), ("b", 2)):
        histogram.labels(label).observe(value)
    (scope,) = to_otlp(registry.collect(), Resource({}), 1, 2).resource_metrics[0].scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    assert set(found) == {"c", "g_bytes", "h_seconds"}
    (count,) = found["c"].data.data_points
    assert (count.value, count.attributes, found["c"].data.is_monotonic) == (3, {"k": "v"}, True)
    assert (found["g_bytes"].unit, found["g_bytes"].data.data_points[0].value) == ("By", 7)
    points = {point.attributes["k"]: point for point in found["h_seconds"].data.data_points}
    assert (points["a"].bucket_counts, points["a"].explicit_bounds) == ([1, 2, 1], [1, 2])
    assert (points["a"].count, points["a"].sum) == (4, 12.7)
    assert points["b"].bucket_counts == [0, 1, 0]


def test_drift_is_seen_from_outside(observed):
    def value(name):
        with urlopen(f"http://127.0.0.1:{observed.server.metrics_port}/metrics") as page:
            lines = page.read().decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{")), None)

    assert value("cascade_reference_escalation_ratio") == 0.2
    request = BatchCheckRequest(requests=[CheckRequest(text="Good day to you.")] * 250)
    for _ in range(2):
        stubs(observed.server.channel).cascade.BatchCheck(request, timeout=60)
    assert value("cascade_drift_score_psi") > 0.25, "nearly all of these are in the lowest tenth"
    assert value("cascade_drift_escalation_ratio") < 0.1
