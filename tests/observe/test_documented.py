"""docs/observability.md names each metric that there is, with its labels, and none that there is not."""

import re
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from cascade.v1.check_pb2 import CheckRequest
from tests.repo.modules import ROOT, sources
from tests.serve.calling import stubs

MADE = re.compile(r'(Counter|Gauge|Histogram|Info|\w+MetricFamily)\(\s*"(cascade_\w+)"')
ROW = re.compile(r"^\| `(cascade_\w+)` \|([^|]*)\|", re.MULTILINE)


def documented():
    """The labels of each metric by its name, as the table has them."""
    page = (ROOT / "docs/observability.md").read_text()
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in ROW.findall(page)}


def in_the_code():
    """The names under which the metrics that the sources make are scraped."""
    endings = {"Counter": "_total", "Info": "_info"}
    return {
        name + next((ending for kind, ending in endings.items() if made.startswith(kind)), "")
        for path in sources().values()
        for made, name in MADE.findall(path.read_text())
    }


def test_every_metric_is_documented_and_the_reverse():
    assert len(in_the_code()) > 20
    assert sorted(documented()) == sorted(in_the_code())


def test_what_is_scraped_is_documented_with_its_labels(observed):
    stubs(observed.server.channel).cascade.Check(CheckRequest(text="How do I pick a lock?"))
    with urlopen(f"http://127.0.0.1:{observed.server.metrics_port}/metrics") as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    ending = {"counter": "_total"}
    scraped = {family.name + ending.get(family.type, ""): family for family in families}
    ours = {name: family for name, family in scraped.items() if re.match(r"cascade_.*(?<!_created)$", name)}
    table = documented()
    assert ours.keys() <= table.keys()
    # What is not there is another server's: it has workers, or measures drift only after enough checks.
    absent = {name for name in table.keys() - ours.keys() if "worker" not in name and "drift" not in name}
    assert absent == set()
    for name, family in ours.items():
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} <= table[name], name
