"""The HTTP port over a server's life: not ready, ready, shared by workers, drained."""

import asyncio
import re
import signal
import threading
import time
import urllib.request

import pytest

from cascade.gateways.http import waiting_app
from cascade.gateways.listener import Listener
from tests.gateways.asking import Asking, error
from tests.serve.conftest import FAKE_SERVER, ServerProcess, start, whole_lines

COUNTED = re.compile(r'^cascade_requests_total\{code="OK",method="cascade.v1.CascadeService/Check"\} (\S+)$', re.M)


def running(folder, *arguments):
    return ServerProcess([*FAKE_SERVER, "--http", "1", *arguments], folder)


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def logged(path, message):
    return [line for line in path.read_text().splitlines() if message in line]


def test_a_server_that_loads_is_alive_but_not_ready(tmp_path):
    log, held = tmp_path / "log", tmp_path / "held"
    held.touch()
    with log.open("w") as stderr:
        process = start([*FAKE_SERVER, "--http", "1", "--held", str(held)], tmp_path, stderr)
    try:
        wait_for(lambda: logged(log, '"loading"'))
        ask = Asking("127.0.0.1:" + re.search(r'"http": "127\.0\.0\.1:(\d+)"', log.read_text())[1])
        assert (ask("/healthz").status, ask("/readyz").status) == (200, 503)
        found = ask("/v1/check", {"text": "a walk"})
        assert error(found)[:3] == (503, 14, "UNAVAILABLE")
        assert found.headers["retry-after"] == "1"
        for path, body in (("/v1/moderations", {"input": "a walk"}), ("/v1/models", None), ("/v1/models/any", None)):
            found = ask(path, body)
            assert (found.status, found.headers["retry-after"]) == (503, "1")
            assert (found.json["error"]["type"], found.json["error"]["code"]) == ("server_error", "unavailable")
        for path, key in (("/v1/moderations", "error"), ("/v1/check", "code"), ("/healthz", "code")):
            found = ask(path, {}, method="PUT")
            assert (found.status, key in found.json) == (405, True)
        held.unlink()
        assert process.stdout.readline().startswith("ready ")
        assert (ask("/readyz").status, ask("/v1/check", {"text": "a walk"}).status) == (200, 200)
        ask.close()
    finally:
        held.unlink(missing_ok=True)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 0


def test_what_is_under_way_is_answered_and_nothing_new_is_taken(tmp_path):
    held = tmp_path / "held"
    server = running(tmp_path, "--held", str(held), "--drain-s", "100")
    ask, idle, found = Asking(f"127.0.0.1:{server.http_port}"), Asking(f"127.0.0.1:{server.http_port}"), []
    assert idle("/readyz").status == 200
    held.touch()
    slow = threading.Thread(target=lambda: found.append(ask("/v1/check", {"text": "slow"})))
    slow.start()
    wait_for(lambda: "cascade_requests_in_flight 1.0" in idle("/metrics").text)
    server.terminate()
    wait_for(lambda: logged(server.log, '"draining"'))
    held.unlink()
    assert server.wait(60) == (0, "")
    slow.join()
    assert [one.json["verdict"] for one in found] == ["VERDICT_SAFE"]
    with pytest.raises(ConnectionRefusedError):
        Asking(f"127.0.0.1:{server.http_port}")("/healthz")
    assert "cut off" not in server.log.read_text()
    for one in (ask, idle):
        one.close()


def test_workers_share_the_port_and_tell_their_counts_as_one(tmp_path):
    server = running(tmp_path, "--workers", "2")
    try:
        address = f"127.0.0.1:{server.http_port}"
        asking = [Asking(address) for _ in range(16)]
        for ask in asking:
            assert ask("/v1/check", {"text": "a bad thing"}).json["verdict"] == "VERDICT_UNSAFE"
        wait_for(lambda: {COUNTED.search(ask("/metrics").text)[1] for ask in asking} == {"16.0"})
        over_http = asking[0]("/metrics").text
        with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=60) as found:
            over_metrics_port = found.read().decode()
        assert names(over_http) == names(over_metrics_port)
        assert {'worker="0"', 'worker="1"', 'worker="supervisor"'} <= set(re.findall(r'worker="\w+"', over_http))
        assert {ask("/readyz").status for ask in asking} == {200}
        for ask in asking:
            ask.close()
    finally:
        server.close()
    assert not [line for line in whole_lines(server.log) if line["level"] == "error"]


def names(text):
    return {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


@pytest.mark.parametrize(("max_age_s", "told"), [(0.0, None), (600.0, None), (1e-6, "close")])
async def test_an_old_connection_is_asked_to_be_made_anew(max_age_s, told):
    listening = Listener(waiting_app(), None, max_age_s)
    port = listening.bind("127.0.0.1", 0, shared=False)
    await listening.open()
    try:
        ask = Asking(f"127.0.0.1:{port}")
        for _ in range(2):
            found = await asyncio.to_thread(ask, "/healthz")
            assert (found.status, found.headers["connection"]) == (200, told)
        ask.close()
    finally:
        await listening.close()
