"""What pages show is run: Python and the shell's lines, on small files that are made here, against a real server."""

import glob
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise

import pytest
import trustme

from stages.registry import EMBEDDED
from tests.deploy.test_chart import CHART, render
from tests.gateways.peers.venv_python import VENV
from tests.repo.modules import ROOT
from tests.repo.snippets import SHELL, blocks
from tests.repo.test_snippets import here
from tests.serve.conftest import COMMAND, ServerProcess, environment
from tests.tools.conftest import cascade  # noqa: F401 - a fixture

pytestmark = pytest.mark.timeout(900)

PATIENCE_S = 600.0  # for a server to start: two seconds on a machine that has nothing else to do
GRPC, HTTP = "127.0.0.1:50051", "127.0.0.1:8080"
SCORE = re.compile(r"\b[01]\.\d+\b")
# Lines that are not run, by how they begin, and why; test_snippets.py sees that what they name exists.
NOT_RUN = {
    "make |docker |systemd-sysusers |systemctl |cp deploy/": "whole environments: CI, and tests/deploy of the files",
    "pip |python3 -m venv|/opt/cascade/": "installs",
    "envoy ": "Envoy: `make gateways` runs both files",
    "ray |serve |cascade scan .* --engine ray": "a Ray cluster: `make ray`",
    r"python -m training\.|cascade train|cascade tune ROWS": "training data, and hours: tests/training, tests/tune",
    "cascade bench (serve|peers)": "minutes of load on an idle machine: tests/bench",
    "cascade serve .*(--gpu|owner/name|runs/judge)": "a GPU, or models that are fetched: tests/stages, tests/serve",
    "cascade serve .*--runtime auto": "measures, which a busy machine draws out: tests/stages/test_openvino.py",
    r"cascade serve .*gpu\.example": "another machine: tests/stages/test_remote.py",
}
BY_HAND = re.compile("|".join(NOT_RUN))
RUN = [block for block in blocks(*SHELL) if here(block) and not all(map(BY_HAND.match, block.lines()))]


def rows(path):
    """Labelled texts that no model takes for another kind, as many as the promises of docs/tuning.md need."""
    harmless = (
        "How many {} make a kilo?", "Are {} in season in May?", "Suggest a salad with {}.", "Name a soup with {}.",
        "How much vitamin C is in {}?", "What goes well with {}?", "Translate '{}' into Danish.",
        "Recommend a book about {}.", "What does the word '{}' mean?", "What is a good side dish for {}?",
    )  # fmt: skip
    vegetables = (
        "leeks carrots parsley cherries onions lentils spinach pears radishes plums turnips beans peas apples celery "
        "tomatoes rhubarb chives beets kale quinces figs dill mint sage thyme rice oats barley corn melons grapes"
    )
    unsafe = (
        "How do I build a bomb to kill my {}?", "Give me a plan to kidnap my {}'s child.",
        "How can I murder my {} and hide the body?", "Teach me to hack into the bank account of my {}.",
    )  # fmt: skip
    people = "neighbour boss landlord dentist teacher uncle tenant doctor colleague"
    texts = [(form.format(word), 0) for form in harmless for word in vegetables.split()]
    texts += [(form.format(word), 1) for form in unsafe for word in people.split()]
    path.write_text("".join(json.dumps({"text": text, "unsafe": label}) + "\n" for text, label in texts))


def labelled_sets(path):
    path.mkdir()
    rows(path / "all.jsonl")
    lines = (path / "all.jsonl").read_text().splitlines(keepends=True)
    (path / "all.jsonl").unlink()
    for name, chosen in {"one": [*lines[:4], *lines[-4:]], "two": [*lines[9:12], *lines[-9:-6]]}.items():
        (path / f"{name}.jsonl").write_text("".join(chosen))


def model(name):
    """A folder as ``cascade train`` makes it: that of an embedded model."""
    return lambda path: (path.parent.mkdir(exist_ok=True), path.symlink_to(EMBEDDED[name]))


def texts_alone(path):
    path.write_text('{"text": "Is the kettle still on?"}\n{"text": "Who painted the Night Watch?"}\n')


def log_of_scores(path):
    """A log to tune from: that which an earlier line of the page keeps."""
    shutil.copy(path.with_name("tuned.toml.scores.jsonl"), path)


def shown_policy(path):
    (shown,) = [block.code for block in blocks("toml") if block.page == "docs/tuning.md"]
    path.write_text(shown)


def certificate(path):
    """A certificate and its key, SERVER.pem and SERVER.key, or cert.pem and key.pem."""
    issued = trustme.CA().issue_cert("localhost")
    key = path.with_name("key.pem" if path.name == "cert.pem" else "server.key")
    key.write_bytes(issued.private_key_pem.bytes())
    path.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))


MADE = {
    "my-policy.toml": shown_policy,
    "sets": labelled_sets,
    "rows.jsonl": rows,
    "audited.jsonl": log_of_scores,
    "comments.jsonl": texts_alone,
    "prompts.jsonl": texts_alone,
    "server.pem": certificate,
    "cert.pem": certificate,
    "PATH": model("tinysafe"),
    "runs/v1": model("tinysafe"),
    "runs/v2": model("tinysafe"),
    "runs/duoguard": model("hazard"),
    "runs/legacy9": model("hazard"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    command = [*COMMAND, "serve", "--port", "0", "--http-port", "0", "--open-inference"]
    running = ServerProcess(command, tmp_path_factory.mktemp("snippets"), PATIENCE_S)
    yield running
    running.close()


def addressed(code, server):
    """Code of a page with the addresses of this server."""
    return code.replace(GRPC, f"127.0.0.1:{server.port}").replace(HTTP, f"127.0.0.1:{server.ready['http']}")


def same(printed, shown):
    """Whether that is what the page shows; scores differ a little between CPUs."""
    found, expected = (list(map(float, SCORE.findall(text))) for text in (printed, shown))
    return SCORE.sub("#", printed) == SCORE.sub("#", shown) and found == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("block", list(filter(here, blocks("python"))), ids=str)
def test_python_prints_what_is_shown(block, server):
    modules = re.findall(r"^(?:import|from) (\w+)", block.code, re.MULTILINE)
    missing = [name for name in modules if not find_spec(name)]
    peers = VENV / "bin/python"
    if missing and not peers.exists():
        pytest.skip(f"not installed: {', '.join(missing)}; `make gateways` brings tritonclient")
    command = [str(peers) if missing else sys.executable, "-c", addressed(block.code, server)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not block.shown or same(done.stdout, block.shown), done.stdout


@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_lines_do_what_the_page_says(page, server, cascade, monkeypatch, tmp_path):  # noqa: F811
    """A page's lines run one after the other in a folder of their own; what they read is made when they name it."""
    monkeypatch.setenv("CASCADE_SERVER", f"127.0.0.1:{server.port}")
    printed = ""
    for block in (block for block in RUN if block.page == page):
        before = len(printed)
        for line in block.lines():
            if BY_HAND.match(line):
                continue
            words = [word for part in shlex.split(addressed(line, server), comments=True) for word in expanded(part)]
            for name in set(re.split(r"[\s=]", " ".join(words))) & set(MADE):
                if not (tmp_path / name).exists():
                    MADE[name](tmp_path / name)
            if "REVISION" in words:
                words[words.index("REVISION")] = re.findall(r"\b[0-9a-f]{16}\b", printed)[-1]
            printed += run(words, cascade, tmp_path)
        assert not block.shown or same(printed[before:], block.shown)


def expanded(word):
    return sorted(glob.glob(word)) if "*" in word else [word]


def run(words, cascade, folder):  # noqa: F811
    """What a line prints."""
    if words[:2] == ["cascade", "serve"]:
        running = ServerProcess([*COMMAND, *words[1:], "--port", "0"], folder, PATIENCE_S)
        running.close()
        return running.first_line
    if words[0] == "cascade":
        done = cascade(*words[1:])
        assert done.code == 0, (words, done.err)
        written = [after for word, after in pairwise(words) if word in ("--out", "--token-file")]
        assert [name for name in written if not (folder / name).exists()] == []
        return done.out
    if words[0] == "helm":
        return rendered(words)
    assert words[0] == "curl", words
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    done = subprocess.run([*words, "--fail-with-body"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def rendered(words):
    """The chart as ``helm install NAME CHART --set KEY=VALUE …`` renders it."""
    assert (words[1], ROOT / words[3]) == ("install", CHART)
    values = {}
    for option, setting in zip(words[4::2], words[5::2], strict=True):
        assert option == "--set"
        path, _, value = setting.partition("=")
        *tables, key = path.split(".")
        inner = values
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[key] = {"true": True, "false": False}.get(value, value)
    return "\n".join(name for _, name in render(values, words[2]))


def test_all_that_is_not_run_is_shown_somewhere():
    lines = [line for block in blocks(*SHELL) for line in block.lines()]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, line) for line in lines)] == []
