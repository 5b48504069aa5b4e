"""The command with fake models, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade.cli import main
from cascade.policy import load
from tests.fakes import fake_pipeline, fake_policy

ROOT = Path(__file__).parents[2]
FAKE_CLI = [sys.executable, str(Path(__file__).parent / "fake_cli.py")]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def build_fake(
    *, stage1_spec: str, stage2_spec: str | None, policy_path: Path | None, threads: int | None, allow_score_drift: bool
) -> Any:
    """Stands in for ``cascade.build.build_pipeline``."""
    policy = load(policy_path) if policy_path else fake_policy()
    return fake_pipeline(alone=stage2_spec is None, policies=[policy], threads=threads or 1)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascade.build.build_pipeline", build_fake)


@pytest.fixture
def cascade(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Runs ``cascade ARGUMENTS`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CASCADE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["cascade", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        code = end.value.code
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


def environment() -> dict[str, str]:
    """The environment without settings of the user's, and with the sources on the path."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
    return own | {"PYTHONPATH": str(ROOT)}


def in_process(command: list[str], *arguments: object, folder: Path, stdin: bytes = b"") -> Done:
    """Runs a command in a process of its own."""
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=folder, env=environment(), input=stdin, capture_output=True, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
