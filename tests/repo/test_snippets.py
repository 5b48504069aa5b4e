"""Whatever code a page shows has a test, and whatever it names exists; test_snippets_run.py runs it."""

import re
import shlex
import tomllib

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from cascade.cli import app
from cascade.policy import parse
from tests.repo.modules import ROOT
from tests.repo.snippets import BLOCKS, SHELL, TEXTS, blocks, inline

# What is tested here or in test_snippets_run.py; what has no language is a diagram.
HERE = {*SHELL, "python", "toml", "json", "yaml", ""}
# What is not: page, languages, and the file that tests it.
ELSEWHERE = {
    "README.md": ({"python"}, "tests/repo/test_readme.py"),
    "clients/python/README.md": ({"sh", "python"}, "clients/python/tests/test_client.py"),
    "clients/typescript/README.md": ({"sh", "ts"}, "clients/typescript/run-tests"),
    "clients/go/README.md": ({"sh", "go"}, "clients/go/run-tests"),
    "clients/java/README.md": ({"sh", "java"}, "clients/java/run-tests"),
    "clients/cpp/README.md": ({"sh", "cpp", "cmake"}, "clients/cpp/run-tests"),
}
HISTORY = {"CHANGELOG.md", "docs/LOG.md"}  # what they name was there then
TELLING = {"README.md", "CONTRIBUTING.md"}
OURS = re.compile(r"^(deploy|docs|clients|tests|training)/\S+$")
# Programs beside ours, make and Python.
OTHERS = {
    "apt-get",
    "cd",
    "cmake",
    "cp",
    "curl",
    "docker",
    "envoy",
    "go",
    "helm",
    "mvn",
    "npm",
    "pip",
    "ray",
    "serve",
    "systemctl",
    "systemd-sysusers",
}
COMMAND = typer.main.get_command(app)
TARGETS = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
LINES = [(block.page, line) for block in blocks(*SHELL) for line in block.lines()]


def here(block):
    """Whether a block is for these tests."""
    return block.kind not in ELSEWHERE.get(block.page, ((), ""))[0]


def test_every_block_has_a_test():
    kinds = {(block.page, block.kind) for block in BLOCKS}
    elsewhere = {(page, kind) for page, (languages, _) in ELSEWHERE.items() for kind in languages}
    assert len(kinds) > 30
    untested = {(page, kind) for page, kind in kinds - elsewhere if kind not in HERE}
    assert untested == set(), "test it, or say in ELSEWHERE what does"
    assert elsewhere <= kinds, "these pages show no such thing any more"
    tests = {file: (ROOT / file).read_text().replace("clients/README.md", "") for _, file in ELSEWHERE.values()}
    assert [file for file, text in tests.items() if "README" not in text] == [], "nothing of the page is tested there"


def test_a_block_without_a_language_is_a_diagram():
    assert [str(block) for block in blocks("") if not re.search("[─└►]", block.code)] == []


def test_what_the_shell_is_told_exists():
    assert len(LINES) > 50
    assert [f"{page}: {fault}" for page, line in LINES for fault in faults(page, line)] == []


@pytest.mark.parametrize("program", ["cascade", "make", "python", "pytest"])
def test_what_the_text_names_exists(program):
    lines = [(page, line) for page, line in inline(program) if page not in HISTORY]
    assert lines
    assert [f"{page}: {fault}" for page, line in lines for fault in faults(page, line)] == []


def test_extras_exist_and_are_told_of():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    asked = re.compile(r"pip install \S*(?:safety-cascade|\.)\[([\w,]+)\]")
    named = {(page, name) for page, text in TEXTS.items() for found in asked.findall(text) for name in found.split(",")}
    assert len(named) > 5
    assert {(page, name) for page, name in named if name not in extras} == set()
    listed = set(re.findall(r"^\| `(\w+)` \|", TEXTS["docs/getting-started.md"], re.MULTILINE))
    assert listed == extras - {"dev", "docs"}  # which the Makefile installs


def test_contributors_are_told_what_make_can_do():
    told = {line.split()[1] for page, line in [*LINES, *inline("make")] if line.startswith("make ") and page in TELLING}
    assert set(TARGETS) - {"help", "install", "train", "clean"} <= told


def faults(page, line):
    """What is not there of what a line names."""
    words = shlex.split(line, comments=True)
    program, *rest = words
    missing = [f"there is no {word}" for word in rest if OURS.match(word) and not (ROOT / word).exists()]
    if program == "make":
        return missing if rest[0] in TARGETS else [*missing, f"there is no target {rest[0]}"]
    if program == "cascade":
        return missing + of_ours(rest)
    if program == "pytest":
        return missing or ([] if selects(rest) else [f"{line} selects nothing"])
    if rest[:1] == ["-m"] and program in ("python", "python3") and rest[1] != "venv":
        return missing + of_module(rest[1], rest[2:])
    scripts = [word for word in words if re.match(r"(\./|examples?/)\w", word)]
    lost = [f"there is no {word}" for word in scripts if not (ROOT / page).parent.joinpath(word).exists()]
    known = scripts or program in {*OTHERS, "python3"} or re.match(r"(\.venv|/opt/cascade)/bin/|build/", program)
    return missing + lost + ([] if known else [f"what is {program}?"])


def of_ours(words):
    """What our command does not know of these words."""
    command = COMMAND
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        if not (inner := command.get_command(None, words[0])):
            return [f"there is no command {words[0]}"]
        command, words = inner, words[1:]
    own = words[: words.index("--")] if "--" in words else words
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return [f"no option {word}" for word in own if word.startswith("--") and word.partition("=")[0] not in known]


def of_module(name, words):
    """What a module, run as a script, does not know of these words."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    if not path.is_file():
        return [f"there is no {name}"]
    options = {word for word in words if word.startswith("--")}
    return [f"{name} has no {option}" for option in options if option not in path.read_text()]


def selects(words):
    """Whether ``pytest FILE -k EXPRESSION`` finds a test, by the names and parameters in the file."""
    named = re.findall(r"\w+", words[words.index("-k") + 1]) if "-k" in words else []
    source = (ROOT / words[0]).read_text()
    tests = [*re.findall(r"def (test_\w+)", source), *re.findall(r'"(\w+)"', source)]
    return all(any(word in test for test in tests) for word in named if word not in ("and", "or"))


def test_what_does_not_exist_would_be_found():
    assert faults("README.md", "cascade policy push FILE --server a") == []
    assert faults("README.md", "cascade polity") == ["there is no command polity"]
    assert faults("README.md", "cascade serve --prot 1  # comment") == ["no option --prot"]
    assert faults("README.md", "cascade bench serve -- --anything") == []
    assert faults("README.md", "make polity") == ["there is no target polity"]
    assert faults("README.md", "polity deploy/polity.yaml") == ["there is no deploy/polity.yaml", "what is polity?"]
    assert faults("README.md", "python -m training.polity") == ["there is no training.polity"]
    assert faults("README.md", "python -m training.fit_policy --polity") == ["training.fit_policy has no --polity"]
    assert faults("clients/go/README.md", "./polity") == ["there is no ./polity"]
    assert faults("README.md", "pytest tests/repo/test_snippets.py -k 'exists or polity'") == [
        "pytest tests/repo/test_snippets.py -k 'exists or polity' selects nothing"
    ]


@pytest.mark.parametrize("block", [block for block in blocks("toml") if "…" not in block.code], ids=str)
def test_toml_is_of_a_policy(block):
    """All TOML that pages show is of policies; where something is left out there is an ellipsis."""
    head = "" if "schema" in block.code else 'schema = 1\nname = "shown"\n'
    assert parse(head + block.code)


def test_json_and_yaml_are_of_their_languages():
    read = [yaml.safe_load(block.code) for block in blocks("json", "yaml")]
    assert read
    assert all(read)
