"""A real Envoy with the sample configurations between a client, a model's API and the server with fake models."""

import http.client
import json
import socket
import subprocess
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from cascade.gateways.surfaces import Surfaces
from tests.fakes import FakeStage
from tests.gateways.envoy_filter import BAD, CALM, DONE, chat, chunk, completion, uncommented
from tests.gateways.peers import venv_python
from tests.repo.modules import ROOT
from tests.serve.guarded import Guarded

WORDS = [chunk(f"word{index} ") for index in range(120)]


class Model(BaseHTTPRequestHandler):
    """A model's API: what it is to answer is the last message, and what came in is kept."""

    protocol_version = "HTTP/1.1"
    seen: list = []  # noqa: RUF012 - of all requests

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((dict(self.headers), data))
        asked = json.loads(data)["messages"][-1]["content"]
        if not asked.startswith("stream"):
            body = completion(BAD if "turn" in asked else CALM)
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        turned = [chunk(BAD + " ")] * 8 + WORDS if "turn" in asked else []
        for piece in [*WORDS, *turned, DONE]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(0.002)
        if "half" in asked:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def model():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class Proxy:
    """Envoy with a sample configuration, its addresses replaced."""

    def __init__(self, sample, folder, cascade, model, **options):
        tree = yaml.safe_load(uncommented((ROOT / "deploy/envoy" / sample).read_text()))
        listener = tree["static_resources"]["listeners"][0]
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
        ports = {"cascade": int(cascade.rpartition(":")[2]), "models": model}
        for cluster in tree["static_resources"]["clusters"]:
            endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
            endpoint["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": ports[cluster["name"]]}
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"][0]["typed_config"] |= options
        tree["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
        (folder / "envoy.yaml").write_text(yaml.safe_dump(tree))
        self._admin, self.log = folder / "admin", folder / "envoy.log"
        command = [venv_python.envoy(), "-c", str(folder / "envoy.yaml"), "--admin-address-path", str(self._admin)]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, "--use-dynamic-base-id", "--concurrency", "1"], stdout=log, stderr=log
            )
        try:
            self.port = self._port()
        except BaseException:
            self.close()
            raise

    def ask(self, data, path="/v1/chat/completions", headers=()):
        """A request's status, headers and body."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            sent = {"content-type": "application/json", "accept-encoding": "gzip", **dict(headers)}
            connection.request("POST", path, data, sent)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def close(self):
        self._process.kill()
        self._process.wait()

    def _port(self):
        """Waits until the listener is there and the cluster of Cascade is healthy."""
        until = time.monotonic() + 90
        while time.monotonic() < until and self._process.poll() is None:
            try:
                host, port = self._admin.read_text().rsplit(":", 1)
                with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
                    connection.request("GET", "/clusters?format=json")
                    clusters = json.load(connection.getresponse())["cluster_statuses"]
                    connection.request("GET", "/listeners?format=json")
                    listeners = json.load(connection.getresponse())["listener_statuses"]
                hosts = [host for one in clusters if one["name"] == "cascade" for host in one.get("host_statuses", ())]
                if listeners and hosts and hosts[0]["health_status"].get("failed_active_health_check") is None:
                    return listeners[0]["local_address"]["socket_address"]["port_value"]
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])


def proxy_of(sample):
    @pytest.fixture(scope="module")
    def proxy(blocking, model, tmp_path_factory):
        running = Proxy(sample, tmp_path_factory.mktemp("envoy"), blocking.address, model, **SAMPLES[sample])
        yield running
        running.close()

    return proxy


# A busy machine may take longer for a verdict than the 0.2 s of the sample.
SAMPLES = {"ext_proc.yaml": {"message_timeout": "60s", "max_message_timeout": "60s"}, "ext_authz.yaml": {}}
processed, authorized = proxy_of("ext_proc.yaml"), proxy_of("ext_authz.yaml")


@pytest.mark.parametrize("name", ["processed", "authorized"])
def test_requests_are_judged_on_their_way(name, request):
    proxy = request.getfixturevalue(name)
    status, headers, body = proxy.ask(
        chat(CALM), headers={"x-cascade-verdict": "forged", "x-cascade-hazards": "forged"}
    )
    assert (status, body) == (200, completion(CALM))
    upstream, data = Model.seen[-1]
    assert data == chat(CALM)
    assert (upstream["x-cascade-verdict"], upstream.get("x-cascade-hazards")) == ("safe", None)
    before = len(Model.seen)
    status, headers, body = proxy.ask(chat(BAD))
    assert status == 403
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["error"]["cascade"]["hazards"] == ["hate"]
    for broken, refused in ((b"{", 400), (b"a" * 5_000_000, 413)):
        assert proxy.ask(broken)[0] == refused
    assert len(Model.seen) == before, "nothing of it went on"
    assert proxy.ask(chat(CALM))[0] == 200


@pytest.mark.parametrize("name", ["processed", "authorized"])
def test_a_route_has_a_policy_and_a_mode_and_no_client_chooses_them(name, request):
    proxy = request.getfixturevalue(name)
    assert proxy.ask(chat(CALM), "/trial/chat")[0] == 200
    upstream, _ = Model.seen[-1]
    assert (upstream["x-cascade-verdict"], upstream["x-cascade-action"]) == ("unsafe", "block"), "strict, and only told"
    chosen = {"x-cascade-policy": "strict", "x-cascade-mode": "headers"}
    assert proxy.ask(chat(BAD), headers=chosen)[0] == 403
    assert proxy.ask(chat(CALM), headers=chosen)[0] == 200
    assert Model.seen[-1][0]["x-cascade-verdict"] == "safe"


def test_answers_are_judged_on_their_way(processed):
    status, headers, body = processed.ask(chat(CALM))
    assert (status, headers["x-cascade-verdict"]) == (200, "safe")
    assert "accept-encoding" not in {name.lower() for name in Model.seen[-1][0]}
    status, _, body = processed.ask(chat("turn"))
    assert status == 403
    assert json.loads(body)["error"]["code"] == "response_blocked"


def test_a_streamed_answer_goes_through_unchanged(processed):
    status, _, body = processed.ask(chat("stream"))
    assert (status, body) == (200, b"".join([*WORDS, DONE]))


def test_a_streamed_answer_ends_where_it_turns_bad(processed):
    status, _, body = processed.ask(chat("stream and turn"))
    assert status == 200
    assert body.startswith(WORDS[0])
    assert b"terrible" not in body
    assert body.endswith(DONE)
    assert json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))["error"]["code"] == "response_blocked"
    assert processed.ask(chat(CALM))[0] == 200


def test_half_a_streamed_answer_is_an_error_and_the_next_request_works(processed):
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        processed.ask(chat("stream half"))
    assert processed.ask(chat(CALM))[0] == 200


@pytest.mark.parametrize("name", ["processed", "authorized"])
@pytest.mark.parametrize("length", [10, 10_000])
def test_a_length_that_is_a_lie_gets_nothing_through(name, length, request):
    proxy, before = request.getfixturevalue(name), len(Model.seen)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
        lines = ("POST / HTTP/1.1", "host: h", "content-type: application/json", f"content-length: {length}", "", "")
        connection.sendall("\r\n".join(lines).encode() + chat(CALM))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"200 OK" not in answer
    assert len(Model.seen) == before
    assert proxy.ask(chat(CALM))[0] == 200


def test_envoy_grants_the_time_that_is_asked_for(model, tmp_path):
    slow = Guarded(surfaces=Surfaces(envoy=True), stage1=FakeStage(delay_s=5))
    try:
        proxy = Proxy("ext_proc.yaml", tmp_path, slow.address, model, message_timeout="4s", max_message_timeout="60s")
        try:
            assert proxy.ask(chat(CALM))[0] == 200
        finally:
            proxy.close()
    finally:
        slow.stop()


@pytest.mark.parametrize(("sample", "status"), [("ext_proc.yaml", 500), ("ext_authz.yaml", 403)])
def test_without_cascade_nothing_passes(model, tmp_path, sample, status):
    gone = Guarded(surfaces=Surfaces(envoy=True))
    proxy = Proxy(sample, tmp_path, gone.address, model)
    gone.stop()
    try:
        before = len(Model.seen)
        assert proxy.ask(chat(CALM))[0] in (status, 503)
        assert len(Model.seen) == before
    finally:
        proxy.close()
