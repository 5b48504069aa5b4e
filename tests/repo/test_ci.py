"""What .ci/run does about the dependency audit: it stops for a vulnerability, and for nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.repo.modules import ROOT

WHERE = f"{Path('/bin')}:{Path('/usr/bin')}"
PYTEST = "=== 3 passed in 1.00s ==="
FOUND = "Found 2 known vulnerabilities in 1 package"
CLEAN = "No known vulnerabilities found"
UNKNOWN = "grpcio Dependency not found on PyPI and could not be audited: grpcio (1.0)"


def ci(folder: Path, audit: str, *, code: int = 0, timeout: str = "") -> subprocess.CompletedProcess[str]:
    """Runs CI with a `make` that says this of the audit, and with nobody who could install packages."""
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", folder / ".ci")
    (folder / "said").write_text(audit)
    programs = folder / "bin"
    programs.mkdir()
    scripts = {"make": f'[ "$1" = test ] && {{ echo "{PYTEST}"; exit; }}\necho "$*" >>asked; cat said >&2; exit {code}'}
    scripts["id"] = "echo 1000"
    if timeout:
        scripts["timeout"] = timeout
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    command = [folder / ".ci/run"]
    environment = {"PATH": f"{programs}:{WHERE}"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def test_a_known_vulnerability_stops_ci_before_the_tests(tmp_path: Path) -> None:
    done = ci(tmp_path, f"WARNING: something else\n{FOUND}\ngrpcio 1.0 PYSEC-1\n{UNKNOWN}\n", code=2)
    assert done.returncode != 0
    assert PYTEST not in done.stdout
    assert FOUND in done.stderr
    assert "PYSEC-1" in done.stderr


def test_pins_without_one_are_passed_over_in_silence(tmp_path: Path) -> None:
    done = ci(tmp_path, f"{CLEAN}\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{PYTEST}\n", "")
    assert (tmp_path / "asked").read_text() == "audit STRICT=\n"


@pytest.mark.parametrize(
    ("audit", "code", "told"),
    [
        (f"{UNKNOWN}\n{UNKNOWN}\n{CLEAN}\n", 0, "about 2 pins"),
        ("ConnectionError: Failed to resolve\nmake: *** [Makefile:1: audit] Error 1\n", 2, "about all pins"),
        (f"Found existing installation\n{CLEAN}\nmake: *** Error 1\n", 2, "about all pins"),
        ("", 2, "about all pins"),
    ],
)
def test_who_cannot_be_asked_is_named_and_holds_nothing_up(tmp_path: Path, audit: str, code: int, told: str) -> None:
    done = ci(tmp_path, audit, code=code)
    assert (done.returncode, done.stdout) == (0, f"{PYTEST}\n")
    assert done.stderr == f"not to be had: advisories {told}\n"


def test_an_audit_that_hangs_is_given_up(tmp_path: Path) -> None:
    done = ci(tmp_path, CLEAN, timeout='echo "$*" >limit; exit 124')
    assert (done.returncode, done.stdout) == (0, f"{PYTEST}\n")
    assert (tmp_path / "limit").read_text() == "--kill-after 10 180 make audit STRICT=\n"
    assert done.stderr == "not to be had: advisories about all pins\n"
