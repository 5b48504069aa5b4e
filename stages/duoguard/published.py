"""DuoGuard as published: Qwen2.5 or Llama for sequence classification, fully tuned, one sigmoid for each of 12 labels.

A text is unsafe when its largest label probability is above 0.5, so the unsafe logit is the largest label logit.
"""

from __future__ import annotations

from pathlib import Path

from stages import hub
from stages.checkpoint import TOKENIZER, end_token, may_hold, open_tokenizer, rows_of, shapes
from stages.contents import Contents
from stages.encoder import NetworkStage
from stages.errors import ModelError
from stages.manifest import file_hash
from stages.stage import Calibration
from stages.system import System
from stages.taxonomy import DUOGUARD_LABELS

HEAD = "score.weight"
# The base repositories, by model type. The cards take the tokenizer from there; all of a family have the same one.
BASES = {"qwen2": ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B"), "llama": ("meta-llama/Llama-3.2-1B",)}


def recognises(contents: Contents) -> bool:
    """Whether a folder holds a Qwen2 or Llama decoder with a classification head."""
    known = contents.config.get("model_type") in tuple(BASES)
    return not contents.adapter and known and may_hold(contents, HEAD)


def tokenizer_path(contents: Contents) -> Path:
    """The tokenizer: the folder's own, else that of the base which ``config.json`` names, else the family's.

    Raises:
        ModelError: none of them is at hand.
    """
    if TOKENIZER in contents.files:
        return contents.folder / TOKENIZER
    named = contents.config.get("_name_or_path")
    if isinstance(named, str) and named and (contents.folder / named / TOKENIZER).is_file():
        return contents.folder / named / TOKENIZER
    bases = BASES[contents.config["model_type"]]
    if isinstance(named, str) and hub.is_hub_id(named):
        bases = (named, *bases)
    try:
        return hub.file_of(bases, TOKENIZER)
    except ModelError as error:
        raise ModelError(
            f"{contents.folder}: no {TOKENIZER}; copy that of its base there, {' or '.join(bases)} ({error})"
        ) from error


def base_files(contents: Contents) -> dict[str, str]:
    """SHA-256 of the base's tokenizer where the folder has none."""
    return {} if TOKENIZER in contents.files else {f"base/{TOKENIZER}": file_hash(tokenizer_path(contents))}


def load_published(folder: Path, *, device: str, dtype: str | None) -> NetworkStage:
    """The stage of a DuoGuard folder. See :class:`stages.system.LoadPublished`."""
    contents = Contents(folder)
    head = shapes(contents).get(HEAD)
    if head is None or head[0] != len(DUOGUARD_LABELS):
        found = head[0] if head else "no"
        raise ModelError(f"{folder}: {HEAD} has {found} rows, DuoGuard has {len(DUOGUARD_LABELS)} labels")
    rows = rows_of(contents)
    end = end_token(contents.config, rows)
    tokenizer = open_tokenizer(tokenizer_path(contents), window_tokens=SYSTEM.window_tokens, rows=rows, filler=end)

    from stages.duoguard.network import DuoGuardNetwork
    from stages.runtime.classifier import load_classifier
    from stages.runtime.torch import TorchNetwork, choose_dtype, open_device

    precision = choose_dtype(dtype, open_device(device))
    classifier = load_classifier(contents, labels=len(DUOGUARD_LABELS), dtype=precision)
    network = TorchNetwork(DuoGuardNetwork(classifier), device=device, dtype=dtype, pad_id=end)
    info = SYSTEM.info(contents, device=str(network.device), runtime=network.runtime)
    return NetworkStage(info, Calibration(), tokenizer, network)


SYSTEM = System(
    name="duoguard",
    kind="duoguard",
    taxonomy="duoguard-12@1",
    labels=DUOGUARD_LABELS,
    base="Qwen/Qwen2.5 or meta-llama/Llama-3.2-1B",
    licence="Apache-2.0 (a Llama base: Llama 3.2 Community License too)",
    window_tokens=512,
    recognises=recognises,
    load=load_published,
    scripts=("*",),
    base_files=base_files,
)
