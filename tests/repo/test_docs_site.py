"""The site builds from the repository's own pages, and what its pages show works."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from cascade.cli import app
from cascade.v1 import cascade_service_pb2, check_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2
from tests.repo.modules import ROOT
from tests.serve.conftest import COMMAND, ServerProcess, environment

DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```(?:\n+```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
CONTRACT = (cascade_service_pb2, check_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2)
GRPC, HTTP = "127.0.0.1:50051", "127.0.0.1:8080"
# Programs that a page may name beside ours and make; those that install or need a daemon are not run here.
OTHERS = {
    "cp",
    "curl",
    "docker",
    "envoy",
    "helm",
    "pip",
    "promtool",
    "python",
    "python3",
    "systemctl",
    "systemd-sysusers",
}
OTHERS.add("/opt/cascade/bin/pip")
SETTING = re.compile(r"^[A-Z_]+=\S+ ", re.MULTILINE)  # of the environment, before a command
OURS = re.compile(r"^(deploy|docs|clients)/\S+$")


def blocks(*kinds):
    """The code of a kind on all pages, each with the text shown below it, by page and number."""
    found = {}
    for page in sorted(DOCS.rglob("*.md")):
        if page.name != "cli.md":  # made from the commands' help
            fences = FENCE.findall(page.read_text(encoding="utf-8"))
            codes = [(code, shown) for name, code, shown in fences if name in kinds]
            found |= {f"{page.relative_to(DOCS)}-{index}": code for index, code in enumerate(codes)}
    return found


def lines():
    """The shell's lines, with lines that go on joined, by page."""
    joined = ((where, SETTING.sub("", code.replace("\\\n", " "))) for where, (code, _) in blocks("sh", "bash").items())
    return [(where, line) for where, code in joined for line in code.splitlines() if line.strip()]


PYTHON, SHELL = blocks("python"), {where: block for where, block in blocks("sh", "bash").items() if block[1]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    command = [*COMMAND, "serve", "--port", "0", "--http-port", "0", "--open-inference"]
    running = ServerProcess(command, tmp_path_factory.mktemp("docs"))
    yield running
    running.close()


def here(code, server):
    """Code of a page with the addresses of this server."""
    return code.replace(GRPC, f"127.0.0.1:{server.port}").replace(HTTP, f"127.0.0.1:{server.ready['http']}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; the build itself refuses missing pages and dead links."""
    out = tmp_path_factory.mktemp("site")
    # -o: the environment is not remade here; this test runs in whichever one runs it.
    command = ["make", "-o", ".venv-dev/.installed", "site", f"DEV_PYTHON={sys.executable}", f"SITE_OUT={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.timeout(600)
def test_every_page_is_built_and_can_be_found(site):
    pages = {path.relative_to(site / "pages").as_posix() for path in (site / "pages").rglob("*.md")}
    built = {path.relative_to(site / "html").parent.as_posix() for path in (site / "html").rglob("index.html")}
    assert built == {re.sub(r"(^|/)index$", "", page.removesuffix(".md")) or "." for page in pages}
    named = set(re.findall(r'"([\w/-]+\.md)"', (DOCS / "site/zensical.toml").read_text()))
    lost = sorted(pages - named)
    assert lost == [], "give them a place in `nav` of docs/site/zensical.toml"


@pytest.mark.timeout(600)
def test_the_whole_contract_is_on_its_page(site):
    page = (site / "html/reference/contract/index.html").read_text()
    words = set(re.findall(r"\w+", re.sub(r"<[^>]+>", " ", page)))
    for file in (module.DESCRIPTOR for module in CONTRACT):
        for message in file.message_types_by_name.values():
            assert {message.name, *message.fields_by_name} <= words
        for service in file.services_by_name.values():
            assert {service.name, *service.methods_by_name} <= words
        for enum in file.enum_types_by_name.values():
            assert {enum.name, *enum.values_by_name} <= words
    assert "Judges one content." in page


@pytest.mark.timeout(600)
def test_docstrings_are_on_their_page(site):
    page = (site / "html/reference/python/index.html").read_text()
    for name in ("cascade.pipeline.Pipeline", "cascade.build.build_pipeline", "stages.stage", "stages.errors"):
        assert f'id="{name}"' in page
    assert ":::" not in page


@pytest.mark.timeout(600)
def test_pages_fetch_nothing_from_elsewhere(site):
    loaded = re.compile(r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="([^"]+)"')
    addresses = {found for page in (site / "html").rglob("*.html") for found in loaded.findall(page.read_text())}
    assert addresses
    assert [address for address in addresses if urlsplit(address).netloc] == []


@pytest.mark.parametrize("where", PYTHON)
def test_python_runs_and_prints_what_is_shown(where, server):
    code, shown = PYTHON[where]
    missing = {name for name in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE) if not find_spec(name)}
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    command = [sys.executable, "-c", here(code, server)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (shown or done.stdout)


@pytest.mark.parametrize("where", SHELL)
def test_commands_print_what_is_shown(where, server):
    code, shown = SHELL[where]
    words = shlex.split(code, comments=True)
    assert words[0] == "cascade"
    asked = environment(CASCADE_SERVER=f"127.0.0.1:{server.port}")
    done = subprocess.run([*COMMAND, *words[1:]], cwd=ROOT, env=asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, shown), done.stderr


def test_what_is_asked_by_curl_is_answered(server):
    calls = [shlex.split(line, comments=True) for _, line in lines() if line.startswith("curl ")]
    assert calls
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    for call in calls:
        words = [here(word, server) for word in call]
        done = subprocess.run([*words, "--fail-with-body"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (call, done.stdout, done.stderr)


def test_commands_and_options_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wrong = []
    for where, line in lines():
        words = shlex.split(line, comments=True)
        missing = [word for word in words if OURS.match(word) and not (ROOT / word).exists()]
        wrong += [f"{where}: there is no {word}" for word in missing]
        if words[:1] == ["make"]:
            wrong += [] if words[1] in targets else [f"{where}: there is no target {words[1]}"]
        elif words[:1] == ["cascade"]:
            wrong += [f"{where}: {fault}" for fault in faults(words[1:])]
        elif words[:2] in (["python", "-m"], ["python3", "-m"]) and words[2].startswith("training."):
            path = ROOT / f"{words[2].replace('.', '/')}.py"
            options = {word for word in words if word.startswith("--")}
            wrong += [f"{where}: {words[2]} has no {option}" for option in options if option not in path.read_text()]
        elif words and words[0] not in OTHERS:
            wrong.append(f"{where}: what is {words[0]}?")
    assert len(lines()) > 20
    assert wrong == []


def faults(words):
    """What our command does not know of these words."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words:
        if not (inner := command.get_command(None, words[0])):
            return [f"there is no command {words[0]}"]
        command, words = inner, words[1:]
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return [f"no option {word}" for word in words if word.startswith("--") and word.partition("=")[0] not in known]


def test_a_command_that_does_not_exist_would_be_found():
    assert faults(["policy", "push", "FILE", "--server", "a"]) == []
    assert faults(["polity"]) == ["there is no command polity"]
    assert faults(["serve", "--prot", "1"]) == ["no option --prot"]


@pytest.mark.parametrize(("kind", "parse"), [("toml", tomllib.loads), ("yaml", yaml.safe_load)])
def test_settings_are_of_their_language(kind, parse):
    codes = [code for code, _ in blocks(kind).values() if "…" not in code]
    for code in codes:
        assert parse(code)
    assert codes or kind == "yaml"
