"""A real Prometheus scrapes a real server, and evaluates every expression under deploy/."""

import json
import shutil
import socket
import subprocess
import time
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from cascade.v1.check_pb2 import CheckRequest
from tests.deploy.expressions import DEPLOY, expressions
from tests.serve.calling import stubs

SCRAPES = 3  # a rate needs two
# What a short and healthy life has none of; other expressions must give something.
NOTHING = (
    "Changes",
    "Degraded",
    "Drift",
    "Errors",
    "Escalated, against",
    "Refused",
    "Rules",
    "Triggers",
    "Workers",
    "Contents of",
)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def ask(deployed, tmp_path_factory):
    """Asks a Prometheus that has scraped the server a few times: *expression* -> result."""
    if not (program := shutil.which("prometheus")):
        pytest.skip("Prometheus is not installed (Debian: prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    text = (DEPLOY / "prometheus/prometheus.yml").read_text()
    for published, tried in (("cascade:9090", f"127.0.0.1:{deployed.metrics_port}"), (": 15s", ": 1s")):
        assert published in text
        text = text.replace(published, tried)
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(DEPLOY / "prometheus/alerts.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--storage.tsdb.path={folder}/series", f"--web.listen-address={address}"]
    command = [program, f"--config.file={folder}/prometheus.yml", *flags]

    def query(expression):
        with urlopen(f"http://{address}/api/v1/query?{urlencode({'query': expression})}", timeout=30) as answer:
            return json.load(answer)["data"]["result"]

    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            calls, end = stubs(deployed.channel).cascade, time.monotonic() + 90
            while not enough(query):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end, "never scraped"
                calls.Check(CheckRequest(text="How do I build a bomb to kill my neighbour?"))
                time.sleep(0.3)
            yield query
        finally:
            process.kill()


def enough(query):
    """Whether there were scrapes enough."""
    try:
        found = query("sum(count_over_time(cascade_build_info[5m]))")
    except URLError:  # it has not begun to listen
        return False
    return bool(found) and int(found[0]["value"][1]) >= SCRAPES


def test_every_expression_is_evaluated_and_panels_have_something_to_show(ask):
    empty = [where for where, text in expressions().items() if not ask(text) and where.startswith("panel")]
    assert [where for where in empty if not where.removeprefix("panel ").startswith(NOTHING)] == []
    assert ask("ALERTS") == []
