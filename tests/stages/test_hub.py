"""A hub id is taken from the cache without asking the network; without either, one line says so and soon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from stages import hub, registry
from stages.errors import ModelError

REVISION = "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that refuses connections."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path


def fill(cache: Path, repo: str) -> Path:
    """A cached snapshot of a repository."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(REVISION)
    (snapshot / "config.json").write_text("{}")
    return snapshot


def test_the_cache_comes_first(cache: Path) -> None:
    snapshot = fill(cache, "someone/a-model")
    (snapshot / "model.safetensors").touch()
    assert registry.resolve("someone/a-model") == snapshot
    assert registry.resolve(f"someone/a-model@{REVISION}") == snapshot
    with pytest.raises(ModelError, match="not a safetensors file"):
        registry.load_stage("someone/a-model")


def test_a_cached_tokenizer_is_not_taken_for_the_whole_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, whole = fill(cache, "someone/a-model"), cache / "whole"
    asked = []
    usual = huggingface_hub.snapshot_download

    def download(repo: str, *, local_files_only: bool = False, **options: Any) -> str:
        if local_files_only:
            return usual(repo, local_files_only=True, **options)
        asked.append(repo)
        return str(whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.folder_of("someone/a-model") == whole
    (snapshot / "model.safetensors").touch()
    assert hub.folder_of("someone/a-model") == snapshot
    assert asked == ["someone/a-model"]


def test_without_cache_and_hub_the_error_comes_soon(cache: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ModelError, match="someone/other: no such folder, and the hub's cache") as caught:
        registry.resolve("someone/other")
    assert time.monotonic() - started < 30
    assert "\n" not in str(caught.value)
    assert not any(
        path.is_file() for path in cache.rglob("*") if ".lock" not in path.name and path.name != "CACHEDIR.TAG"
    )


@pytest.mark.parametrize("spec", ["a/b/c", "a b/c", "../x", "/x/y", "name", "a/", "./a"])
def test_what_is_no_hub_id_is_not_looked_for(spec: str, cache: Path) -> None:
    assert not hub.is_hub_id(spec)
    with pytest.raises(ModelError, match="neither an embedded model"):
        registry.resolve(spec)


def test_a_folder_comes_before_the_hub(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, "someone/a-model")
    (tmp_path / "someone/a-model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert registry.resolve("someone/a-model") == Path("someone/a-model")
