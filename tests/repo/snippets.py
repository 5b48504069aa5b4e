"""The code that pages show: *the site's pages and the repository's own* -> blocks, their lines, inline commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from docs.site.build import pages
from tests.repo.modules import ROOT

MADE = ROOT / "docs/cli.md"  # from the commands' help: test_docs.py
PAGES = sorted({*pages(), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/README.md"))} - {MADE})
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
SETTING = re.compile(r"^(?:[A-Z_]+=\S+ )+")  # of the environment, before a command
SHELL = ("sh", "bash")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the text in a block of its own below it: what it prints."""

    page: str
    number: int
    kind: str
    code: str
    shown: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"

    def lines(self) -> list[str]:
        """A shell's lines, those that go on joined, without settings of the environment and lines of comment."""
        lines = re.sub(r"\\\n\s*", "", self.code).splitlines()
        return [SETTING.sub("", line) for line in lines if line.strip() and not line.startswith("#")]


def blocks(*kinds: str) -> list[Block]:
    """The blocks of these kinds, page by page."""
    return [block for block in BLOCKS if block.kind in kinds]


def inline(program: str) -> Iterator[tuple[str, str]]:
    """What the text of the pages shows of a program within backticks: page and line."""
    for page, text in TEXTS.items():
        for code in INLINE.findall(FENCE.sub("", text)):
            if (line := " ".join(code.split())).startswith(f"{program} "):
                yield page, line


TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
FOUND = {page: FENCE.findall(text) for page, text in TEXTS.items()}
BLOCKS = [Block(page, number, *found) for page, fences in FOUND.items() for number, found in enumerate(fences)]
