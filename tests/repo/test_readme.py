"""What the README shows works: its Python runs against a real server, its commands exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL)
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line]
SCORE = re.compile(r"\b0\.\d+\b|\b1\.0\b")


@pytest.fixture(scope="module")
def address():
    command = [sys.executable, "-m", "cascade.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()[1].removeprefix("grpc=")
        process.terminate()


def test_the_readme_has_snippets():
    assert len(PYTHON) == README.count("```python") >= 2
    assert any(line.startswith("make serve") for line in SHELL)


@pytest.mark.parametrize(("code", "shown"), PYTHON, ids=range(len(PYTHON)))
def test_python_snippets_print_what_the_readme_shows(code, shown, address):
    assert "127.0.0.1:50051" in code
    code = code.replace("127.0.0.1:50051", address)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # Scores may differ in the last digit between CPUs; words may not.
    assert SCORE.sub("#", done.stdout) == SCORE.sub("#", shown)
    found, expected = (list(map(float, SCORE.findall(text))) for text in (done.stdout, shown))
    assert found == pytest.approx(expected, abs=0.05)


def test_commands_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in SHELL:
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert words[1] in targets, line
        else:
            assert words[0] == "cascade", line
            helped = subprocess.run(
                [sys.executable, "-m", "cascade.cli", words[1], "--help"], cwd=ROOT, capture_output=True
            )
            assert helped.returncode == 0, line
