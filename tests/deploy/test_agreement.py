"""What the files under deploy/ say of one another and of the server: ports, commands, variables, values of labels."""

import ast
import json
import re
from pydoc import locate
from urllib.request import urlopen

import grpc
import promql_parser as promql
import pytest
import typer.main
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.core import TyperGroup

from cascade.cli import app
from cascade.gateways.ray_serve.settings import Settings
from cascade.v1.check_pb2 import CheckRequest
from tests.deploy.expressions import DEPLOY, expressions, selectors
from tests.deploy.test_chart import GPU, TLS, container, render, variables
from tests.repo.modules import ROOT
from tests.repo.test_snippets import faults
from tests.serve.calling import stubs

TEXTS = {path: path.read_text() for path in sorted(DEPLOY.rglob("*")) if path.is_file()}
PORTS = {"grpc": 50051, "http": 8080, "metrics": 9090}
# A comment's line that is a command, or a command within backticks.
COMMANDS = re.compile(r"^#\s+(cascade [a-z].*)$|`(cascade [a-z][^`]*)`", re.MULTILINE)
COMMAND = typer.main.get_command(app)
CODES = {code.name for code in grpc.StatusCode}


def parameters(command):
    """The parameters of a command and of those below it."""
    yield from command.params
    for name in command.list_commands(None) if isinstance(command, TyperGroup) else ():
        yield from parameters(command.get_command(None, name))


def default(command, variable):
    """The default of a command's option by its variable."""
    (found,) = (one.default for one in COMMAND.get_command(None, command).params if one.envvar == variable)
    return found


def test_variables_are_options_of_a_command():
    known = {parameter.envvar for parameter in parameters(COMMAND)}
    named = {(path.name, name) for path, text in TEXTS.items() for name in re.findall(r"\bCASCADE_[A-Z0-9_]+\b", text)}
    assert len(named) > 25
    assert {(file, name) for file, name in named if name not in known} == set()


def test_commands_and_their_options_exist():
    found = [(path, line) for path, text in TEXTS.items() for line in map("".join, COMMANDS.findall(text))]
    assert {path.name for path, _ in found} >= {"ext_proc.yaml", "ext_authz.yaml", "values.yaml", "README.md"}
    said = [(path.relative_to(ROOT), fault) for path, line in found for fault in faults(str(path), line)]
    assert said == []


def test_ports_are_the_same_everywhere():
    assert default("serve", "CASCADE_PORT") == PORTS["grpc"]
    dockerfile = TEXTS[DEPLOY / "docker/Dockerfile"]
    assert re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE) == [" ".join(map(str, PORTS.values()))]
    assert f"CASCADE_METRICS_PORT={PORTS['metrics']}\n" in dockerfile
    compose = yaml.safe_load(TEXTS[DEPLOY / "compose/compose.yaml"])["services"]["cascade"]
    assert compose["environment"]["CASCADE_HTTP_PORT"] == str(PORTS["http"])
    assert [port.split(":")[1:] for port in compose["ports"]] == [[str(PORTS[name])] * 2 for name in ("grpc", "http")]
    scraped = yaml.safe_load(TEXTS[DEPLOY / "prometheus/prometheus.yml"])["scrape_configs"][0]["static_configs"]
    assert scraped[0]["targets"] == [f"cascade:{PORTS['metrics']}"]
    for sample in ("ext_proc.yaml", "ext_authz.yaml"):
        clusters = yaml.safe_load(TEXTS[DEPLOY / "envoy" / sample])["static_resources"]["clusters"]
        (ours,) = [one for one in clusters if one["name"] == "cascade"]
        endpoint = ours["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        assert endpoint["address"]["socket_address"]["port_value"] == PORTS["grpc"]


@pytest.mark.parametrize("values", [{}, GPU | TLS], ids=["plain", "gpu, tls"])
def test_ports_of_the_chart_are_those_of_the_image(values):
    objects = render(values)
    for name in (name for kind, name in objects if kind == "Deployment"):
        own, http = variables(objects, name), container(objects, name)["ports"]
        opened = {port["name"]: port["containerPort"] for port in http}
        assert opened == {key: port for key, port in PORTS.items() if key != "http" or name == "cascade"}
        assert own.get("CASCADE_HTTP_PORT", "8080") == str(PORTS["http"])
        annotations = objects["Deployment", name]["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(PORTS["metrics"])
        assert f":{PORTS['grpc']}?" in own["CASCADE_SERVER"] + "?"
        service = {port["name"]: port for port in objects["Service", name]["spec"]["ports"]}
        assert {key: port["port"] for key, port in service.items()} == {
            key: port for key, port in opened.items() if key != "metrics"
        }
        assert [port["targetPort"] for port in service.values()] == list(service)


def test_who_stops_a_server_or_asks_it_waits_longer_than_it_takes():
    dockerfile, unit = TEXTS[DEPLOY / "docker/Dockerfile"], TEXTS[DEPLOY / "systemd/cascade.service"]
    compose = yaml.safe_load(TEXTS[DEPLOY / "compose/compose.yaml"])["services"]["cascade"]
    drain, asking = default("serve", "CASCADE_DRAIN_S"), default("health", "CASCADE_TIMEOUT_S")
    assert float(compose["stop_grace_period"].removesuffix("s")) > drain
    assert float(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]) > drain
    assert float(re.findall(r"^HEALTHCHECK .*--timeout=(\d+)s", dockerfile, re.MULTILINE)[0]) > asking
    probes = container(render(TLS))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert probes[probe]["timeoutSeconds"] > asking, "the kubelet's own patience is a second"


def test_the_gpu_s_pins_are_of_the_torch_that_is_pinned():
    (torch,) = re.findall(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert TEXTS[DEPLOY / "docker/constraints-gpu.txt"].startswith(f"# What torch {torch} with CUDA needs")


def test_rays_application_is_one_that_can_be_built():
    """`make ray` deploys it; without Ray it can at least be read."""
    config = yaml.safe_load(TEXTS[DEPLOY / "ray/serve.yaml"])
    (application,) = config["applications"]
    assert Settings.model_validate(application["args"]) == Settings()
    module, _, builder = application["import_path"].partition(":")
    source = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assert builder in {node.name for node in source.body if isinstance(node, ast.FunctionDef)}
    named = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
    assert {deployment["name"] for deployment in application["deployments"]} == {"Cascade", "Stage2"} <= named
    for servicer in config["grpc_options"]["grpc_servicer_functions"]:
        assert callable(locate(servicer)), servicer


def test_rays_callers_repeat_what_all_clients_do_and_what_a_lost_replica_says():
    rays, shared = json.loads(TEXTS[DEPLOY / "ray/service-config.json"]), ROOT / "clients/service-config.json"
    codes = rays["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"]
    assert codes.pop() == "INTERNAL"
    assert rays == json.loads(shared.read_text())


def told_by(port):
    """The values of each label of each series that a server tells; a call is counted when it has been answered."""
    found = {}
    while ("cascade_request_seconds_bucket", "method") not in found:
        with urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        for sample in (sample for family in families for sample in family.samples):
            for label, value in sample.labels.items():
                found.setdefault((sample.name, label), set()).add(value)
    return found


def test_values_of_labels_are_those_that_a_server_tells(deployed):
    """A matcher of no series is an alert that never fires; one that excludes nothing shows too much."""
    stubs(deployed.channel).cascade.Check(CheckRequest(text="How do I pick a lock?"))
    told, seen, lost = told_by(deployed.metrics_port), set(), []
    for where, text in expressions().items():
        for selector in selectors(promql.parse(text)):
            for matcher in selector.matchers.matchers:
                key = selector.name, matcher.name
                # What Prometheus adds; and a change that is refused, which a healthy server has none of.
                if matcher.name in ("job", "namespace", "pod") or key == ("cascade_reloads_total", "outcome"):
                    continue
                known = told.get(key, set()) | (CODES if matcher.name == "code" else set())
                wanted = matcher.value.split("|") if matcher.name == "code" else [matcher.value]
                lost += [(where, one) for one in wanted if not any(re.fullmatch(one, value) for value in known)]
                seen.add(key)
    assert lost == []
    assert {name for _, name in seen} == {"method", "code", "stage", "phase", "outcome"}
