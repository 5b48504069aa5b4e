"""The Helm chart: linted and rendered by Helm's own code, and what comes out held against Kubernetes' schemas."""

import tomllib

import helm_python as helm
import kubernetes_validate
import pytest
import typer.main
import yaml

from cascade.cli import app
from tests.deploy.expressions import DEPLOY
from tests.repo.modules import ROOT

CHART = DEPLOY / "helm/cascade"
KUBERNETES = "1.30"  # the oldest that Chart.yaml admits
TLS = {"tls": {"secretName": "certificates"}}
GPU = {"gpu": {"enabled": True}}
SCALED = {"autoscaling": {"enabled": True}}
KINDS = {
    "defaults": {},
    "tls": TLS,
    "mutual tls": {"tls": {"secretName": "certificates", "clientCa": True, "serverName": "safety.example"}},
    "gpu": GPU,
    "gpu, tls, tokens": GPU | TLS | {"tokens": {"secretName": "tokens"}},
    "scaled": {"server": SCALED, "gpu": {"enabled": True} | SCALED},
    "policy": {"policy": 'schema = 1\nname = "house"\n'},
    "bare": TLS | {
        "http": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
    "all sorts": GPU | {
        "networkPolicy": {"clients": [], "metrics": [], "extraEgress": [{"ports": [{"port": 4317}]}]},
        "server": {
            "settings": {"CASCADE_CALLER_RATE": "100"},
            "image": {"repository": "r/c", "digest": "sha256:" + "0" * 64},
        },
        "readiness": {"service": "stage2"},
        "imagePullSecrets": [{"name": "pull"}],
        "podAnnotations": {"a/b": "c"},
        "extraVolumes": [{"name": "audit", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "audit", "mountPath": "/audit"}],
    },
}  # fmt: skip
BAD = [
    {"serverr": {}},
    {"server": {"replicas": "two"}},
    {"server": {"settings": {"PATH": "/"}}},
    {"server": {"image": {"repository": "cascade", "digest": "latest"}}},
    {"service": {"type": "ExternalName"}},
    {"drainSeconds": -1},
    {"server": {"settings": {"CASCADE_HTTP_PORT": "8081"}}},
    {"server": {"settings": {"CASCADE_DRAIN_S": "90"}}},
    {"gpu": {"enabled": True, "settings": {"CASCADE_TLS_KEY": "/key"}}},
    {"gpu": {"enabled": True, "settings": {"CASCADE_TOKEN_FILE": "/tokens"}}},
    {"tokens": {"token": "secret"}},
]


def render(values, name="cascade"):
    """The objects by kind and name."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name=name, namespace="prod")
    documents = [one for path, text in texts.items() if path.endswith(".yaml") for one in yaml.safe_load_all(text)]
    return {(one["kind"], one["metadata"]["name"]): one for one in documents if one}


def container(objects, name="cascade"):
    (found,) = objects["Deployment", name]["spec"]["template"]["spec"]["containers"]
    return found


def variables(objects, name="cascade"):
    return {item["name"]: item["value"] for item in container(objects, name)["env"]}


def serve_variables():
    """The environment variables of ``cascade serve`` and ``cascade health``."""
    root = typer.main.get_command(app)
    commands = [root.get_command(None, name) for name in ("serve", "health")]
    return {param.envvar for command in commands for param in command.params}


def test_helm_finds_nothing_to_say_against_it():
    found = helm.lint(CHART, strict=True)
    assert found["total_charts_linted"] == 1
    assert found["errors"] == []
    assert [message for message in found["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_rendered_is_what_kubernetes_takes(kind):
    objects = render(KINDS[kind])
    for one in objects.values():
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    assert ("Deployment", "cascade") in objects
    assert (("Deployment", "cascade-gpu") in objects) == KINDS[kind].get("gpu", {}).get("enabled", False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_pod_is_locked_down_and_selected(kind):
    objects = render(KINDS[kind])
    services = [one for (what, _), one in objects.items() if what == "Service"]
    for (what, name), one in objects.items():
        if what != "Deployment":
            continue
        template = one["spec"]["template"]
        pod, inside = template["spec"], container(objects, name)
        assert one["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        chosen = [s for s in services if s["spec"]["selector"].items() <= template["metadata"]["labels"].items()]
        assert [s["metadata"]["name"] for s in chosen] == [name]
        assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is inside["securityContext"]["readOnlyRootFilesystem"] is True
        assert inside["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert inside["resources"]["limits"]["memory"]
        mounts, volumes = ({item["name"] for item in items} for items in (inside["volumeMounts"], pod["volumes"]))
        assert mounts == volumes
        assert pod["terminationGracePeriodSeconds"] > 5 + float(variables(objects, name)["CASCADE_DRAIN_S"])
        names = [item["name"] for item in inside["env"]]
        assert set(names) <= serve_variables()
        assert len(names) == len(set(names))


def test_probes_ask_by_grpc_and_with_certificates_the_pod_asks_itself():
    plain, secured = container(render({})), container(render(KINDS["mutual tls"]))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert plain[probe]["grpc"] == {"port": 50051, "service": ""}
        assert secured[probe]["exec"] == {"command": ["cascade", "health"]}
    address = variables(render(KINDS["mutual tls"]))["CASCADE_SERVER"]
    assert address == "grpcs://127.0.0.1:50051?ca=/tls/ca.crt&name=safety.example&cert=/tls/tls.crt&key=/tls/tls.key"
    stage2 = render({"readiness": {"service": "stage2"}, **TLS})
    assert container(stage2)["readinessProbe"]["exec"]["command"] == ["cascade", "health", "--service", "stage2"]


def test_servers_ask_the_gpu_pods_and_nobody_else_does():
    objects = render(KINDS["gpu, tls, tokens"])
    asked = variables(objects)["CASCADE_STAGE2"]
    assert asked == "grpcs://cascade-gpu:50051?ca=/tls/ca.crt&name=cascade.prod.svc&token_file=/tokens/stage2-token"
    assert variables(objects, "cascade-gpu")["CASCADE_GPU"] == "true"
    assert container(objects, "cascade-gpu")["resources"]["limits"]["nvidia.com/gpu"] == 1
    first = objects["NetworkPolicy", "cascade-gpu"]["spec"]["ingress"][0]["from"]
    labels = objects["Deployment", "cascade"]["spec"]["selector"]["matchLabels"]
    assert first == [{"podSelector": {"matchLabels": labels}}]
    assert objects["NetworkPolicy", "cascade-gpu"]["spec"]["egress"] == []


def test_who_may_call_others_may_look_up_their_names():
    collector = {"to": [{"podSelector": {"matchLabels": {"app": "collector"}}}], "ports": [{"port": 4317}]}
    lookup = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    for values, more in [(GPU, 0), ({}, 0), (GPU | {"networkPolicy": {"extraEgress": [collector]}}, 1)]:
        objects = render(values)
        for name in (name for kind, name in objects if kind == "NetworkPolicy"):
            rules = objects["NetworkPolicy", name]["spec"]["egress"]
            calls = [rule for rule in rules if rule["ports"] != lookup]
            assert len(calls) == more + (values != {} and name == "cascade")
            assert len(rules) - len(calls) == bool(calls)


def test_settings_go_before_what_the_chart_sets():
    age, stage2 = {"CASCADE_MAX_CONNECTION_AGE_S": "5"}, {"CASCADE_STAGE2": "none", "OTEL_SERVICE_NAME": "safety"}
    objects = render({"gpu": {"enabled": True, "settings": age}, "server": {"settings": stage2}})
    for name, settings in [("cascade", stage2), ("cascade-gpu", age)]:
        assert variables(objects, name).items() >= settings.items()
        assert len(container(objects, name)["env"]) == len(variables(objects, name))
    assert variables(render(GPU), "cascade-gpu")["CASCADE_MAX_CONNECTION_AGE_S"] == "60"


def test_with_neither_certificates_nor_a_network_policy_nothing_is_rendered():
    with pytest.raises(helm.HelmRenderError, match="in the clear"):
        render({"networkPolicy": {"enabled": False}})
    assert "CASCADE_INSECURE_PUBLIC" in variables(render({}))
    assert "CASCADE_INSECURE_PUBLIC" not in variables(render(TLS))


def test_a_scaled_deployment_leaves_its_replicas_alone():
    objects = render(KINDS["scaled"])
    for name in ("cascade", "cascade-gpu"):
        assert "replicas" not in objects["Deployment", name]["spec"]
        scaler = objects["HorizontalPodAutoscaler", name]["spec"]
        assert scaler["scaleTargetRef"]["name"] == name
        metrics = [metric["pods"]["metric"]["name"] for metric in scaler["metrics"]]
        assert metrics == ["cascade_queue_windows", "cascade_request_seconds_p95"]


def test_no_value_becomes_a_secret_and_a_policy_becomes_a_file():
    objects = render(KINDS["policy"] | {"tokens": {"secretName": "tokens"}} | TLS)
    assert "Secret" not in {kind for kind, _ in objects}
    assert tomllib.loads(objects["ConfigMap", "cascade-policy"]["data"]["policy.toml"])["name"] == "house"
    assert variables(objects)["CASCADE_POLICY"] == "/policy/policy.toml"


def test_a_release_of_another_name_is_one_of_its_own():
    names = {name for _, name in render(KINDS["all sorts"], name="eu")}
    assert names == {"eu-cascade", "eu-cascade-gpu"}


@pytest.mark.parametrize("values", BAD, ids=str)
def test_values_of_no_sense_are_refused(values):
    with pytest.raises(helm.HelmError):
        render(values)


def test_the_chart_is_of_this_release():
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == release
