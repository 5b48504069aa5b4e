"""A model on the Hugging Face hub as a local folder: what the cache holds is taken without asking the network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from stages.errors import ModelError

HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
TIMEOUT_S = 10.0  # for the hub's first answer
WEIGHTS = frozenset((".safetensors", ".pt", ".onnx", ".bin"))
WANTED = ("*.json", "*.safetensors", "*.pt", "*.onnx", "*.model", "*.txt", "*.jinja")


def is_hub_id(spec: str) -> bool:
    """Whether a name has the form ``owner/name`` or ``owner/name@revision``."""
    return HUB_ID.fullmatch(spec) is not None


def folder_of(spec: str) -> Path:
    """The folder of a hub id: the cache's, else a download.

    A cached copy without weights (of its tokenizer alone, say) counts only where the hub gives no more.

    Raises:
        ModelError: the cache does not hold it and the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    match = HUB_ID.fullmatch(spec)
    if match is None:
        raise ModelError(f"{spec}: not a hub id, which has the form owner/name or owner/name@revision")
    repo, revision = match["repo"], match["revision"]
    cached: Path | None = None
    try:
        cached = Path(snapshot_download(repo, revision=revision, local_files_only=True))
        if any(path.suffix in WEIGHTS for path in cached.rglob("*")):
            return cached
    except LocalEntryNotFoundError:
        pass  # not in the cache: ask the hub
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(WANTED), etag_timeout=TIMEOUT_S))
    except Exception as error:  # the hub's client raises errors of its own, of httpx and of the file system
        if cached is not None:
            return cached  # whoever loads it names what it lacks
        raise ModelError(
            f"{spec}: no such folder, and the hub's cache does not hold it, nor could it be fetched "
            f"({type(error).__name__})"
        ) from error


def file_of(repos: Sequence[str], name: str) -> Path:
    """One file of the first of these repositories whose cached copy has it, else of the first, downloaded.

    Raises:
        ModelError: no cache holds it and the hub does not give it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for repo in repos:
        try:
            return Path(hf_hub_download(repo, name, local_files_only=True))
        except LocalEntryNotFoundError:
            pass  # not in the cache: try the next, then ask the hub
    try:
        return Path(hf_hub_download(repos[0], name, etag_timeout=TIMEOUT_S))
    except Exception as error:  # the hub's client raises errors of its own, of httpx and of the file system
        raise ModelError(
            f"{repos[0]}: {name} is not in the hub's cache, nor could it be fetched ({type(error).__name__})"
        ) from error
