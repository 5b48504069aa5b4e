"""Images, compose files and the systemd unit, as far as can be told without a daemon; sizes of nothing are guessed."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.expressions import DEPLOY
from tests.deploy.test_chart import serve_variables
from tests.repo.modules import ROOT

DOCKERFILE = DEPLOY / "docker/Dockerfile"
COMPOSE = DEPLOY / "compose/compose.yaml"
GPU = DEPLOY / "compose/gpu.yaml"
GPU_PINS = "deploy/docker/constraints-gpu.txt"
UNIT = DEPLOY / "systemd/cascade.service"
PROGRAM = "/opt/cascade/bin/cascade"


def tool(name):
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))


def assert_passes(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing():
    assert_passes(tool("hadolint"), "--failure-threshold", "style", str(DOCKERFILE))


def test_a_fault_would_be_found(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text() + "\nRUN cd /tmp && sudo ls\n")
    found = subprocess.run([tool("hadolint"), str(bad)], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "DL3004" in found.stdout, "sudo is named"


def test_the_last_stage_is_the_slim_one_and_none_runs_as_root():
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    bases = {name: base for base, name in stages}
    assert stages[-1] == ("runtime", "cpu")
    assert bases["gpu"] == "runtime"
    runtime = DOCKERFILE.read_text().partition(" AS runtime")[2]
    assert re.findall(r"^USER (.+)$", runtime, re.MULTILINE) == ["65532:65532"]
    assert "\nHEALTHCHECK " in runtime
    assert 'CMD ["cascade", "health"]' in runtime


def test_images_install_what_pyproject_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [set(extras.split(",")) for extras in re.findall(r'"/src\[([\w,]+)\]"', DOCKERFILE.read_text())]
    assert len(asked) == 2
    assert set().union(*asked) <= project["optional-dependencies"].keys()
    assert "gpu" not in asked[0]
    assert "gpu" in asked[1]


def test_the_context_is_what_the_wheel_is_made_of():
    lines = (DEPLOY / "docker/Dockerfile.dockerignore").read_text().splitlines()
    wanted = {line.removeprefix("!") for line in lines if line.startswith("!")}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    files = {build["project"]["readme"], "LICENSE", "NOTICE", "pyproject.toml", "constraints.txt", GPU_PINS}
    assert wanted == files | set(build["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert all((ROOT / name).exists() for name in wanted)
    assert "*" in lines


def test_the_gpu_s_pins_add_to_those_of_ci():
    files = [(ROOT / name).read_text().splitlines() for name in ("constraints.txt", GPU_PINS)]
    ours, more = ([Requirement(line) for line in lines if line and line[0] != "#"] for lines in files)
    assert [str(pin) for pin in more if [part.operator for part in pin.specifier] != ["=="]] == []
    assert {canonicalize_name(pin.name) for pin in ours}.isdisjoint(canonicalize_name(pin.name) for pin in more)
    assert f"-c /src/{GPU_PINS}" in DOCKERFILE.read_text()


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_compose_files_are_of_the_form(path):
    assert_passes(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path))


def test_what_compose_mounts_is_there_and_only_this_machine_reaches_it():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    folders = [folder for folder in mounted if folder.startswith(".")]
    assert len(folders) == 3
    assert [folder for folder in folders if not (COMPOSE.parent / folder).is_dir()] == []
    ports = [port for service in services.values() for port in service["ports"]]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    build = services["cascade"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == DOCKERFILE
    assert services["cascade"]["read_only"] is True
    # A volume over a folder that the image does not have would be root's.
    state = services["cascade"]["environment"]["CASCADE_STATE_DIR"]
    assert services["cascade"]["volumes"] == [f"state:{state}"]
    assert f"install --directory --owner=cascade --group=cascade --mode=0750 {state}\n" in DOCKERFILE.read_text()
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (DEPLOY / "grafana/dashboards" / home.name).exists()
    targets = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert targets == [{"targets": ["cascade:9090"]}]


def test_variables_are_options():
    """A misspelt variable sets nothing, and nobody would hear of it."""
    compose = yaml.safe_load(COMPOSE.read_text())["services"]["cascade"]["environment"]
    written = DOCKERFILE.read_text() + UNIT.read_text() + (ROOT / "docs/deployment.md").read_text()
    named = set(compose) | set(re.findall(r"\bCASCADE_[A-Z0-9_]*[A-Z0-9]\b", written))
    assert len(named) > 8
    assert sorted(named - serve_variables()) == []


def test_systemd_takes_the_unit(tmp_path):
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd is not installed")
    unit = tmp_path / "cascade.service"
    assert UNIT.read_text().count(f"ExecStart={PROGRAM} serve") == 1
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    assert_passes(analyze, "verify", str(unit))
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystm=strict"))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "ProtectSystm" in done.stderr
