"""The clock on the wall jumps, forwards and back, under the real command: only what goes by the date notices."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from cascade.serve import tokens
from cascade.serve.identity import Scope
from cascade.v1.cascade_service_pb2 import CheckStreamRequest
from cascade.v1.check_pb2 import CheckRequest
from tests.serve.calling import fails, stubs, unpack
from tests.serve.conftest import COMMAND, ServerProcess
from tests.serve.test_observability import samples

CODE = grpc.StatusCode
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
DAY_S = 86_400

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed: apt-get install libfaketime")


class Clock:
    """What the server takes for the time: seconds from the true one, read anew each time."""

    def __init__(self, path):
        self.path = path
        self.set(0)
        self.variables = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",  # as in Linux, where that clock never jumps
        }

    def set(self, seconds):
        aside = self.path.with_suffix(".new")
        aside.write_text(f"{seconds:+d}")
        aside.replace(self.path)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.fixture
def issued(tmp_path):
    """A token file of four callers; their metadata by name."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date()
    found = {}
    path = tmp_path / "tokens.toml"
    with path.open("w") as file:
        for name, more in {
            "plain": "",
            "daily": ", daily = 2",
            "rated": ", rate = 2.0",
            "expiring": f", expires = {tomorrow}",
        }.items():
            token, entry = tokens.new([Scope.CHECK], None, None, None)
            file.write(f'{name} = {{ sha256 = "{entry.sha256}", scopes = ["check"]{more} }}\n')
            found[name] = [("authorization", f"Bearer {token}")]
    return path, found


def test_no_call_quota_or_stream_breaks_when_the_clock_jumps(tmp_path, clock, issued):
    path, by = issued
    options = ["--stage2", "none", "--token-file", str(path), "--metrics-port", "0", "--stream-idle-s", "600"]
    server = ServerProcess([*COMMAND, "serve", "--port", "0", *options], tmp_path, 300, **clock.variables)
    call = stubs(server.channel).cascade
    go = threading.Semaphore(0)

    def items():
        while go.acquire():
            yield CheckStreamRequest(request=CheckRequest(text="hello there"))

    def check(name, text="hello there"):
        return call.Check(CheckRequest(text=text), metadata=by[name], timeout=60)

    def refused(name, code):
        error = fails(code, call.Check, CheckRequest(text="hello there"), metadata=by[name])
        return error.retry.retry_delay.ToSeconds() if error.retry else None

    stream = call.CheckStream(items(), metadata=by["plain"], timeout=300)
    try:
        first = check("plain")
        for _ in range(2):
            check("daily")
        assert refused("daily", CODE.RESOURCE_EXHAUSTED) <= DAY_S
        check("expiring")
        for days in (2, -3, 4, 0):
            clock.set(days * DAY_S)
            seen = check("plain")
            assert (seen.verdict, seen.unsafe_probability) == (first.verdict, first.unsafe_probability)
            check("plain", text=f"hello there for {days}")
            go.release()
            assert next(stream).response.verdict == first.verdict, "no stream is ended for lying still"
            if days > 0:
                refused("expiring", CODE.UNAUTHENTICATED)
                for _ in range(2):
                    check("daily")
            else:
                check("expiring")
            assert 0 < refused("daily", CODE.RESOURCE_EXHAUSTED) <= DAY_S, "a clock set back begins no new day"
            wait = rate_is_kept(lambda: check("rated"))
            assert wait <= 1, "a rate goes by a clock that does not jump"
        assert samples(server)["cascade_cache_requests_total", ("outcome", "hit")] >= 4, "what is kept stays kept"
    finally:
        stream.cancel()
        go.release()
        server.close()
    assert '"level": "error"' not in server.log.read_text()


def rate_is_kept(call):
    """Calls until it is refused; returns the seconds that it is told to wait."""
    for _ in range(1000):
        try:
            call()
        except grpc.RpcError as error:
            return unpack(rpc_status.from_call(error))[RetryInfo].retry_delay.ToMilliseconds() / 1000
    raise AssertionError("it was never refused")
