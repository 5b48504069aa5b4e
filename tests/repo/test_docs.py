"""What people read is true: the commands' reference is their own help, and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.repo.modules import ROOT


def test_the_reference_of_the_commands_is_what_make_docs_generates(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    # -o: the environment is not remade here; this test runs in whichever one runs it.
    command = ["make", "-o", ".venv-dev/.installed", "docs", f"DEV_PYTHON={sys.executable}", f"DOCS_OUT={page}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert page.read_text() == (ROOT / "docs/cli.md").read_text(), "run `make docs`"


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    dead = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in link and not link.startswith("mailto:") and not (page.parent / link).exists():
                dead.append(f"{page.relative_to(ROOT)}: {link}")
    assert pages
    assert dead == []
