"""The MLCommons hazard classifier as published: mmBERT with LoRA, or merged, and a softmax over 9 classes.

It names hazards of texts that something else found unsafe: it has no class for harmless ones, so it does not judge.
A class's label logit is the logit of its softmax probability, under the slug that the crosswalk gives it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.checkpoint import (
    ADAPTER,
    TOKENIZER,
    WEIGHTS,
    adapted_files,
    base_of,
    may_hold,
    open_tokenizer,
    require,
    rows_of,
    shapes,
    targets,
)
from stages.contents import SAFETENSORS_INDEX, Contents
from stages.encoder import NetworkStage
from stages.errors import ModelError
from stages.stage import Calibration
from stages.system import System
from stages.taxonomy import LEGACY9, LEGACY9_VERSION

MAPPING = "label_mapping.json"
MODEL_TYPE = "modernbert"
HEAD = "classifier.weight"
SLUGS = dict(LEGACY9)
LABELS = tuple(SLUGS.values())
# Both directions have been published under two pairs of names; the card prints the first one bare.
SHAPES = (("label_to_id", "id_to_label"), ("label2id", "id2label"))


def read_mapping(contents: Contents) -> tuple[str, ...]:
    """The slugs of the classes in the order of the outputs, out of any of the three shapes of ``label_mapping.json``.

    Raises:
        ModelError: no such file, a label that is none of the 9, or ids that are not 0 to 8.
    """
    path = require(contents, MAPPING)
    mapping = contents.json(MAPPING)
    ids: Any = mapping
    for forth, back in SHAPES:
        if forth in mapping:
            ids, names = mapping[forth], mapping.get(back)
            if not isinstance(ids, dict) or (names is not None and names != {str(i): n for n, i in ids.items()}):
                raise ModelError(f"{path}: {forth} and {back} do not agree")
    unknown = sorted(set(ids) - set(SLUGS))
    if unknown:
        raise ModelError(f"{path}: unknown labels {', '.join(unknown)}; known are {', '.join(SLUGS)}")
    by_id = {number: SLUGS[name] for name, number in ids.items() if type(number) is int}
    if sorted(by_id) != list(range(len(LEGACY9))):
        raise ModelError(f"{path}: the ids of the {len(LEGACY9)} labels are not 0 to {len(LEGACY9) - 1}, each once")
    return tuple(by_id[number] for number in range(len(LEGACY9)))


def recognises(contents: Contents) -> bool:
    """Whether a folder holds ModernBERT weights with a classifier, or an adapter for ModernBERT's layers."""
    if contents.adapter:
        return any("Wqkv" in target for target in targets(contents))
    return contents.config.get("model_type") == MODEL_TYPE and may_hold(contents, HEAD)


def base_files(contents: Contents) -> dict[str, str]:
    """SHA-256 of what an adapter takes from its base; nothing for a merged folder."""
    return adapted_files(contents) if contents.adapter else {}


def load_published(folder: Path, *, device: str, dtype: str | None) -> NetworkStage:
    """The stage of an adapter folder or a merged one. See :class:`stages.system.LoadPublished`."""
    contents = Contents(folder)
    if contents.adapter and {WEIGHTS, SAFETENSORS_INDEX} & {*contents.files}:
        raise ModelError(f"{folder}: holds both an adapter and merged weights; remove one")
    if contents.adapter:
        require(contents, ADAPTER)
    slugs = read_mapping(contents)
    whole = base_of(contents, MODEL_TYPE) if contents.adapter else contents
    table = shapes(whole)
    head = contents.shapes(ADAPTER).get(f"base_model.model.{HEAD}") if contents.adapter else table.get(HEAD)
    if head is None or head[0] != len(slugs):
        raise ModelError(f"{folder}: {HEAD} has {head[0] if head else 'no'} rows, {MAPPING} names {len(slugs)} classes")
    tokenizer = open_tokenizer(
        require(contents if TOKENIZER in contents.files else whole, TOKENIZER),
        window_tokens=SYSTEM.window_tokens,
        rows=rows_of(whole),
    )

    from stages.hazard.legacy9_network import HazardSoftmax
    from stages.runtime.classifier import load_adapted, load_classifier
    from stages.runtime.torch import TorchNetwork, choose_dtype, open_device

    precision = choose_dtype(dtype, open_device(device))
    if contents.adapter:
        classifier = load_adapted(contents, whole, labels=len(slugs), dtype=precision)
    else:
        classifier = load_classifier(contents, labels=len(slugs), dtype=precision)
    order = [slugs.index(slug) for slug in LABELS]
    network = TorchNetwork(HazardSoftmax(classifier, order), device=device, dtype=dtype)
    info = SYSTEM.info(contents, device=str(network.device), runtime=network.runtime)
    return NetworkStage(info, Calibration(), tokenizer, network)


SYSTEM = System(
    name="hazard-legacy9",
    kind="hazard",
    taxonomy=LEGACY9_VERSION,
    labels=LABELS,
    base="jhu-clsp/mmBERT-base (MIT)",
    licence="Apache-2.0",
    window_tokens=512,
    recognises=recognises,
    load=load_published,
    scripts=("*",),
    judges=False,
    base_files=base_files,
)
