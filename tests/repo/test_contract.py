"""The contract in protos/ and the stubs in cascade/v1 are one; changes never break clients of branch main."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.modules import ROOT

BUF = Path(sys.executable).with_name("buf")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in the repository's root."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def stubs(folder: Path) -> dict[str, str]:
    """The generated files in a folder by name."""
    return {path.name: path.read_text() for path in folder.iterdir() if "_pb2" in path.name and path.is_file()}


def test_stubs_are_what_make_proto_generates(tmp_path: Path) -> None:
    # -o: the environment is not remade here; this test runs in whichever one runs it.
    done = run("make", "-o", ".venv-dev/.installed", "proto", f"DEV_PYTHON={sys.executable}", f"PROTO_OUT={tmp_path}")
    assert done.returncode == 0, done.stderr
    for folder in ("cascade/v1", "cascade/gateways"):
        generated, committed = stubs(tmp_path / folder), stubs(ROOT / folder)
        assert len(generated) == 3 * len(list((ROOT / "protos" / folder).glob("*.proto")))
        different = [name for name in sorted(generated | committed) if generated.get(name) != committed.get(name)]
        assert different == [], "run `make proto`"


def test_buf_finds_the_contract_clean() -> None:
    assert run(BUF, "lint", "protos").stdout == ""
    done = run(BUF, "format", "protos", "--exclude-path", "protos/google", "--diff", "--exit-code")
    assert done.returncode == 0, done.stdout


def test_buf_refuses_a_message_without_a_comment(tmp_path: Path) -> None:
    (tmp_path / "buf.yaml").write_text((ROOT / "protos/buf.yaml").read_text())
    file = tmp_path / "cascade/v1/check.proto"
    file.parent.mkdir(parents=True)
    file.write_text('syntax = "proto3";\npackage cascade.v1;\nmessage Bare {}\n')
    done = run(BUF, "lint", tmp_path)
    assert done.returncode != 0
    assert "COMMENT_MESSAGE" in done.stdout or "non-empty comment" in done.stdout


def test_the_contract_does_not_break_clients_of_main() -> None:
    if run("git", "rev-parse", "--verify", "--quiet", "main:protos").returncode != 0:
        pytest.skip("branch main holds no protos here (no git checkout, a shallow one, or nothing committed yet)")
    done = run(BUF, "breaking", "protos", "--against", ".git#branch=main,subdir=protos")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_removed_field_counts_as_breaking(tmp_path: Path) -> None:
    for name, field in (("old", "string text = 1;"), ("new", "")):
        file = tmp_path / name / "cascade/v1/check.proto"
        file.parent.mkdir(parents=True)
        (tmp_path / name / "buf.yaml").write_text((ROOT / "protos/buf.yaml").read_text())
        file.write_text(f'syntax = "proto3";\npackage cascade.v1;\n// A.\nmessage A {{\n  // B.\n  {field}\n}}\n')
    done = run(BUF, "breaking", tmp_path / "new", "--against", str(tmp_path / "old"))
    assert "text" in done.stdout, done.stderr
    assert done.returncode != 0
