"""The sources are clean: style, types, size."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.repo.modules import ROOT, sources

MAX_LINES = 350


@pytest.mark.timeout(400)
@pytest.mark.parametrize("tool", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join)
def test_tool_has_nothing_to_say(tool: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_are_small() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in sources().items()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}
