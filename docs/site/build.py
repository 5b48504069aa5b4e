"""Builds the site: *the repository's Markdown, protos, docstrings* -> HTML in OUT/html. Needs the extra `docs`.

    python -m docs.site.build [OUT]

Pages keep their places among the sources, so that they read well there, too. Here they are gathered: a link to what is
a page leads to it, a link to what is none (a source file) loses its address and stays as text.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from os.path import relpath
from pathlib import Path

from docs.site import contract

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
CONTRACT = "reference/contract.md"
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def pages() -> dict[Path, str]:
    """Each page's source by its place in the site."""
    docs = {path: path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    clients = {path: f"clients/{path.parent.name}.md" for path in (ROOT / "clients").glob("*/README.md")}
    others = {"clients/README.md": "clients/index.md", "deploy/ray/README.md": "ray.md", "CHANGELOG.md": "changelog.md"}
    return docs | clients | {ROOT / path: place for path, place in others.items()}


def gather(source: Path, places: dict[Path, str]) -> str:
    """A page's text with its links as they are in the site.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    own, made = places[source], {ROOT / "protos/cascade/v1": CONTRACT}

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = (source.parent / target).resolve()
        if not path.exists():
            raise FileNotFoundError(f"{source.relative_to(ROOT)}: {target}")
        place = places.get(path) or places.get(path / "README.md") or made.get(path)
        return f"[{label}]({relpath(place, Path(own).parent)}{anchor})" if place else label

    text = source.read_text(encoding="utf-8")
    blocks, parts = CODE.findall(text), CODE.split(text)
    return "".join(LINK.sub(link, part) + block for part, block in zip(parts, [*blocks, ""], strict=True))


def build(out: Path) -> None:
    """Builds the site.

    Raises:
        CalledProcessError: a page is missing, or a link to a place on a page leads nowhere.
        FileNotFoundError: as :func:`gather`.
    """
    shutil.rmtree(out, ignore_errors=True)
    places = pages()
    for source, place in places.items():
        page = out / "pages" / place
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(gather(source, places), encoding="utf-8")
    (out / "pages" / CONTRACT).write_text(contract.page(ROOT / "protos"), encoding="utf-8")
    settings = Path(__file__).with_name("zensical.toml").read_text(encoding="utf-8").replace("ROOT", str(ROOT))
    (out / "zensical.toml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(out / "zensical.toml")]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/site").resolve())
