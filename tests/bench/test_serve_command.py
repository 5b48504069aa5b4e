"""``cascade bench serve`` from the outside: against a running server, one that stands still, and one that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest
import trustme

from cascade.bench.serving import run
from cascade.bench.serving.floor import BareTimes
from cascade.bench.serving.mixes import load_mixes
from cascade.serve import tokens
from cascade.serve.identity import Scope
from cascade.serve.security import Security
from cascade.serve.tls import TlsFiles
from cascade.v1.check_pb2 import CheckRequest
from tests.serve.conftest import FAKE_SERVER, ServerProcess
from tests.serve.guarded import Guarded

BENCH = [sys.executable, "-m", "cascade.cli", "bench", "serve", "--runs", "1", "--warm-up-s", "0.5", "--texts", "16"]
SLOW = CheckRequest(text="slow").SerializeToString()


def bench(*options, seconds=100):
    """Runs the command; returns its report, and what it said of how it went."""
    done = subprocess.run([*BENCH, *options], capture_output=True, text=True, check=False, timeout=seconds)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line), done.stderr


@pytest.fixture
def fake(tmp_path):
    server = ServerProcess([*FAKE_SERVER, "--slow", "1.5"], tmp_path)
    yield server
    server.close()


def test_a_running_server_is_measured_by_phase_and_process(fake):
    report, told = bench(
        *("--address", f"127.0.0.1:{fake.port}", "--pid", str(fake.process.pid)),
        *("--rate", "40", "--seconds", "2", "--no-floor", "--limit-ms", "5000", "--provoking", "0.5"),
    )
    found = report["typical"]
    assert found["calls"] == pytest.approx(80, abs=40)
    assert (found["in_time"], found["errors"], found["unsent"]) == (1.0, {}, 0)
    assert found["goodput_per_s"] == found["answered_per_s"] == report["goodput_per_s"]["median"]
    phases = found["phases_ms"]
    assert {"generator", "stage1 queue", "stage1 tokenize", "stage1 infer", "network and rest"} <= set(phases)
    assert sum(phase["mean"] for phase in phases.values()) == pytest.approx(found["latency_ms"]["mean"], rel=0.01)
    assert found["server"]["cpu_s"] > 0
    assert found["server"]["memory_mb"] > 20
    assert (report["pinned"], report["fixed_rate"]) == (False, 40.0)
    assert "in time" in told


def test_a_server_that_stands_still_for_a_second_is_not_forgiven(fake):
    """One call from elsewhere holds up the only thread of stage 1: all calls that are due meanwhile show it."""
    arguments = [*BENCH, "--address", f"127.0.0.1:{fake.port}", "--rate", "40", "--seconds", "6", "--no-floor"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(100, process.kill)
        timer.start()
        told = next((line for line in process.stderr if line.startswith("40.0/s for")), "")
        assert told, "the load never began"
        fake.channel.unary_unary("/cascade.v1.CascadeService/Check")(SLOW, timeout=60)
        out = process.stdout.read()
        timer.cancel()
    found = json.loads(out)["typical"]
    assert found["latency_ms"]["p99"] > 1000
    assert found["latency_ms"]["p90"] > 500  # not one slow call, but a quarter of six seconds' calls
    assert found["phases_ms"]["stage1 queue"]["p99"] > 1000
    assert found["in_time"] < 0.9


def test_a_server_with_tls_and_tokens_is_called_as_its_address_says(tmp_path):
    token, entry = tokens.new([Scope.CHECK], None, None, None)
    held, hashes, ca = tmp_path / "token", tmp_path / "tokens.toml", tmp_path / "ca.pem"
    held.write_text(token)
    hashes.write_text(entry.line("bench") + "\n")
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", None)
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(ca)
    issued.private_key_pem.write_to_path(files.key)
    issued.cert_chain_pems[0].write_to_path(files.certificate)
    server = Guarded(Security(tls=files, token_file=hashes))
    try:
        where = f"grpcs://{server.address}?ca={ca}&token_file={held}"
        report, _ = bench("--address", where, "--rate", "20", "--seconds", "1", "--no-floor", "--limit-ms", "5000")
    finally:
        server.stop()
    assert (report["typical"]["in_time"], report["typical"]["errors"]) == (1.0, {})


def test_a_server_is_started_pinned_and_set_against_the_floor():
    report, _ = bench("--rate", "10", "--seconds", "1", "--limit-ms", "5000", "--", "--stage2", "none")
    assert report["ready"].startswith("ready grpc=127.0.0.1:")
    assert "stage2=none" in report["ready"]
    assert report["pinned"] is (len(os.sched_getaffinity(0)) > 1)
    floor, found = report["floor"], report["typical"]
    assert floor["texts_per_s"] > 0
    assert floor["runs"] == [floor["texts_per_s"]]
    assert set(floor["by_batch"]) == {"1", "2", "4", "8", "16"}
    assert all(ms > 0 for ms in floor["bare_ms"].values())
    assert floor["echo_per_s"] > 0
    ratio = found["goodput_per_s"] / floor["texts_per_s"]
    assert report["goodput_to_floor"]["median"] == pytest.approx(ratio, abs=0.01)
    assert (found["in_time"], found["escalated"], found["errors"]) == (1.0, 0.0, {})
    assert found["server"]["memory_mb"] > 50
    assert report["settings"]["mix_mean"] == pytest.approx(41, abs=5)


async def test_each_run_is_set_against_a_floor_of_its_own(fake, monkeypatch):
    """The machine that halves its speed between two runs halves both."""
    told, rates = [], [100.0, 50.0, 80.0]

    async def measure_floor(settings, texts, cores, number, tell):
        tell(f"floor {number}")
        return run.FloorFigures(
            BareTimes((1,), (1.0,)), rates[number], {1: 1.0}, {"latency_ms": {}, "answered_per_s": 1}
        )

    monkeypatch.setattr(run, "measure_floor", measure_floor)
    monkeypatch.setattr(run, "keep_to", lambda cores: None)
    settings = run.Settings("chat", load_mixes()["chat"], limit_ms=60_000, seconds=0.5, runs=3, warm_up_s=0.2, texts=16)
    report = await run.measure_serve(
        settings,
        address=f"127.0.0.1:{fake.port}",
        pid=None,
        rate=20.0,
        with_floor=True,
        connections=1,
        cache=False,
        options=(),
        tell=told.append,
    )
    assert [line for line in told if "floor" in line or "/s for" in line] == [
        line for number in range(3) for line in (f"floor {number}", "20.0/s for 0.5 s")
    ]
    assert (report["floor"]["texts_per_s"], report["floor"]["runs"]) == (80.0, rates)
    ratios = sorted(one["goodput_per_s"] / rate for one, rate in zip(report["runs"], rates, strict=True))
    found = report["goodput_to_floor"]
    assert [found["low"], found["median"], found["high"]] == pytest.approx(ratios, abs=0.01)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--mix", "nonsense"), "chat, guard, comments, long"),
        (("--address", "127.0.0.1:1", "--", "--stage2", "none"), "started here"),
        (("--address", "127.0.0.1:1", "--rate", "5", "--no-floor"), "UNAVAILABLE"),
        (("--no-floor", "--", "--stage2", "nonsense"), "did not start"),
    ],
)
def test_what_cannot_be_measured_is_told(options, problem):
    done = subprocess.run([*BENCH, *options], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode in (1, 2)
    assert problem in " ".join(done.stderr.split()).replace("│ ", "")
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
