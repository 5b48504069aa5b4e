"""Each line of the threat model in docs/security.md is held by tests, and these exist."""

from __future__ import annotations

import ast
import re

from tests.repo.modules import ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_threat_is_tied_to_tests_that_exist() -> None:
    section = (ROOT / "docs/security.md").read_text(encoding="utf-8").partition("## Threats")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(lines) > 15
    assert [line for line in lines if not NAMED.search(line.rpartition(" | ")[2])] == []
    named = set(NAMED.findall(section))
    there = {(path, test) for path, _ in named for test in functions_of(path)}
    assert sorted(named - there) == []
    assert section.count("::") == len(NAMED.findall(section)), "a test is named in another form"


def functions_of(path: str) -> set[str]:
    """The tests of a file."""
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}
