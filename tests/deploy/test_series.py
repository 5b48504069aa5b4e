"""What dashboard, alerts and autoscalers ask Prometheus for is what a running server tells."""

import json
import re
import shutil
import subprocess
from urllib.request import urlopen

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cascade.v1.check_pb2 import CheckRequest
from tests.deploy.expressions import DEPLOY, adapter, alerts, asked, dashboard, expressions, selectors
from tests.deploy.test_chart import GPU, container, render
from tests.repo.modules import ROOT
from tests.serve.calling import stubs

ROW = re.compile(r"^\| `(cascade_\w+)` \|([^|]*)\|", re.MULTILINE)
SCRAPED = {"job", "instance", "pod", "namespace", "le", "__name__"}  # what Prometheus and its discovery add
# Told only by a server with workers, or with a policy that has a reference and enough checks.
SELDOM = re.compile(r"worker|drift|reference")


@pytest.fixture(scope="module")
def told(deployed):
    """The labels of each series that the server tells, by its name."""
    stubs(deployed.channel).cascade.Check(CheckRequest(text="How do I pick a lock?"))
    with urlopen(f"http://127.0.0.1:{deployed.metrics_port}/metrics") as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    found = {}
    for family in families:
        labels = set().union(*(sample.labels.keys() for sample in family.samples))
        ending = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + end: labels for end in ending}
    return found


@pytest.fixture(scope="module")
def documented():
    """The labels of each metric by its name, as docs/observability.md has them."""
    page = (ROOT / "docs/observability.md").read_text()
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in ROW.findall(page)}


def test_there_are_expressions_of_every_kind():
    kinds = {where.split()[0] for where in expressions()}
    assert kinds == {"alert", "custom", "panel"}
    assert len(expressions()) >= 50


def test_every_series_and_label_that_is_asked_for_is_told(told, documented):
    missing = []
    for where, text in expressions().items():
        parsed = promql.parse(text)
        assert selectors(parsed), where
        for name, labels in asked(parsed):
            seldom = {name} & documented.keys() if SELDOM.search(name) else set()
            if not {name} & (told.keys() | {"up"} | seldom):  # `up` is Prometheus' own
                missing.append(f"{where}: nobody tells {name}")
            metric = re.sub(r"_(bucket|sum|count)$", "", name)
            known = told.get(name, set()) | documented.get(metric, set()) | SCRAPED
            missing += [f"{where}: {name} has no label {label}" for label in sorted(labels - known)]
    assert missing == []


def test_the_dashboard_shows_every_metric_of_ours(documented):
    names = {selector.name for text in expressions().values() for selector in selectors(promql.parse(text))}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert sorted(documented.keys() - shown) == []


def test_panels_lie_side_by_side():
    board = dashboard()
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    sources = {target["datasource"]["uid"] for panel in board["panels"] for target in panel.get("targets", [])}
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert sources == {source["uid"] for source in provisioned["datasources"]}


def test_every_alert_is_tried_both_ways():
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yml").read_text())["tests"]
    quiet, loud = ({case["alertname"]: case["exp_alerts"] for case in test["alert_rule_test"]} for test in tests)
    names = {rule["alert"] for rule in alerts()}
    assert quiet.keys() == loud.keys() == names
    assert not any(quiet.values())
    assert all(loud.values())


def test_alerts_fire_and_keep_still():
    if not (promtool := shutil.which("promtool")):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    folder = DEPLOY / "prometheus"
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def jobs(file):
    return yaml.safe_load((DEPLOY / "prometheus" / file).read_text())["scrape_configs"]


def test_alerts_ask_for_the_job_by_its_name():
    found = [part for rule in alerts() for part in selectors(promql.parse(rule["expr"]))]
    asked_for = {matcher.value for part in found for matcher in part.matchers.matchers if matcher.name == "job"}
    assert [job["job_name"] for job in jobs("prometheus.yml") + jobs("kubernetes.yml")] == [*asked_for] * 2


def pods():
    """What Prometheus discovers of the chart's pods, of one that has ended, and of somebody else's."""
    deployed = {name: one for (kind, name), one in render(GPU).items() if kind == "Deployment"}
    found = [
        (one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"], name, port["name"], "Running")
        for name, one in deployed.items()
        for port in container({("Deployment", name): one}, name)["ports"]
    ]
    found += [("cascade", "ended", "metrics", "Succeeded"), ("other", "other", "metrics", "Running")]
    meta = ("pod_label_app_kubernetes_io_name", "pod_name", "pod_container_port_name", "pod_phase")
    return [
        {
            "targets": [f"{one[1]}:9090"],
            "labels": {f"__meta_kubernetes_{key}": value for key, value in zip(meta, one, strict=True)}
            | {"__meta_kubernetes_namespace": "prod"},
        }
        for one in found
    ]


def scraped(folder, name, rules):
    """The labels of what a job with these rules scrapes of the pods, by Prometheus' own code, which keeps no order."""
    if not (promtool := shutil.which("promtool")):
        pytest.skip("promtool is not installed (Debian: prometheus)")
    config = folder / "prometheus.yml"
    job = {"job_name": name, "relabel_configs": rules, "static_configs": pods()}
    config.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    command = [promtool, "check", "service-discovery", "--timeout=10s", config, name]  # it always takes all of it
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [target["labels"] for target in json.loads(done.stdout) if target.get("labels")]
    public = [{key: value for key, value in one.items() if not key.startswith("__")} for one in found]
    return sorted(public, key=lambda one: one["instance"].split(":"))


def test_in_a_cluster_the_job_scrapes_the_chart_s_pods(tmp_path):
    (job,) = jobs("kubernetes.yml")
    assert job["kubernetes_sd_configs"] == [{"role": "pod"}]
    assert scraped(tmp_path, job["job_name"], job["relabel_configs"]) == [
        {"job": "cascade", "instance": f"{name}:9090", "namespace": "prod", "pod": name}
        for name in ("cascade", "cascade-gpu")
    ]


def test_a_job_by_annotations_gives_the_chart_s_pods_the_name(tmp_path):
    text = (DEPLOY / "prometheus/kubernetes.yml").read_text()
    rules = yaml.safe_load("\n".join(re.findall(r"^#   (.*)$", text, re.MULTILINE)))
    named = {(one["instance"], one["job"]) for one in scraped(tmp_path, "kubernetes-pods", rules)}
    assert named >= {("cascade:9090", "cascade"), ("cascade-gpu:9090", "cascade"), ("other:9090", "kubernetes-pods")}


def test_custom_metrics_are_those_of_the_autoscalers():
    template = (DEPLOY / "helm/cascade/templates/autoscaler.yaml").read_text()
    assert set(re.findall(r"metric: \{name: (\w+)\}", template)) == set(adapter())
