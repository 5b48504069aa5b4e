"""The site builds from the repository's own pages and is whole; test_snippets.py is about the code on them."""

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from cascade.v1 import cascade_service_pb2, check_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2
from tests.repo.modules import ROOT

CONTRACT = (cascade_service_pb2, check_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; the build itself refuses missing pages and dead links."""
    out = tmp_path_factory.mktemp("site")
    # -o: the environment is not remade here; this test runs in whichever one runs it.
    command = ["make", "-o", ".venv-dev/.installed", "site", f"DEV_PYTHON={sys.executable}", f"SITE_OUT={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.timeout(600)
def test_every_page_is_built_and_can_be_found(site):
    pages = {path.relative_to(site / "pages").as_posix() for path in (site / "pages").rglob("*.md")}
    built = {path.relative_to(site / "html").parent.as_posix() for path in (site / "html").rglob("index.html")}
    assert built == {re.sub(r"(^|/)index$", "", page.removesuffix(".md")) or "." for page in pages}
    named = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "docs/site/zensical.toml").read_text()))
    lost = sorted(pages - named)
    assert lost == [], "give them a place in `nav` of docs/site/zensical.toml"


@pytest.mark.timeout(600)
def test_the_whole_contract_is_on_its_page(site):
    page = (site / "html/reference/contract/index.html").read_text()
    words = set(re.findall(r"\w+", re.sub(r"<[^>]+>", " ", page)))
    for file in (module.DESCRIPTOR for module in CONTRACT):
        for message in file.message_types_by_name.values():
            assert {message.name, *message.fields_by_name} <= words
        for service in file.services_by_name.values():
            assert {service.name, *service.methods_by_name} <= words
        for enum in file.enum_types_by_name.values():
            assert {enum.name, *enum.values_by_name} <= words
    assert "Judges one content." in page


@pytest.mark.timeout(600)
def test_docstrings_are_on_their_page(site):
    page = (site / "html/reference/python/index.html").read_text()
    for name in ("cascade.pipeline.Pipeline", "cascade.build.build_pipeline", "stages.stage", "stages.errors"):
        assert f'id="{name}"' in page
    assert ":::" not in page


@pytest.mark.timeout(600)
def test_pages_fetch_nothing_from_elsewhere(site):
    loaded = re.compile(r'<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)="([^"]+)"')
    addresses = {found for page in (site / "html").rglob("*.html") for found in loaded.findall(page.read_text())}
    assert addresses
    assert [address for address in addresses if urlsplit(address).netloc] == []
