"""Saves a trained network as its system publishes it, so that the loaders of published checkpoints take it.

TinySafe v1 and v2: ``model.safetensors`` under their keys, ``config.json`` of the backbone, tokenizer. Legacy hazards:
an adapter, or merged weights, with ``label_mapping.json``. DuoGuard: the whole classifier in bfloat16. Constitutional
and judge: an adapter with its head, in float16.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stages.checkpoint import ADAPTER
from stages.taxonomy import LEGACY9
from training.bases import Base
from training.recipe import Recipe
from training.systems import System
from training.tokenizer import SENTENCE_PIECES, TOKENIZER, write_tokenizer

log = logging.getLogger(__name__)

CARD_OF_PEFT = "README.md"


def publish(recipe: Recipe, system: System, base: Base, out: Path) -> bool:
    """Writes the published layout to ``out``; False, and nothing written, where the system has none on this base."""
    needs = {"tinysafe": "deberta-v2" if recipe.published else "", "legacy9": "modernbert", "hazard": ""}
    needed = needs.get(recipe.system)
    if needed is not None and needed != system.model_type:
        if needed:
            log.warning("no published layout: %s has one on %s, not on %s", recipe.name, needed, system.model_type)
        return False
    out.mkdir(parents=True, exist_ok=True)
    if recipe.system == "tinysafe":
        _tinysafe(recipe, system.network, out)
        for name in (SENTENCE_PIECES, "tokenizer_config.json"):
            if (base.folder / name).is_file():
                shutil.copyfile(base.folder / name, out / name)
        if not (out / SENTENCE_PIECES).is_file():
            write_tokenizer(base.folder, out / TOKENIZER)
        return True
    assert system.saved is not None, "classifiers save themselves"
    _classifier(system.saved, base, out)
    write_tokenizer(base.folder, out / TOKENIZER)
    if recipe.system == "legacy9":
        ids = {name: number for number, (name, _) in enumerate(LEGACY9)}
        _write(out / "label_mapping.json", {"label_to_id": ids, "id_to_label": {n: name for name, n in ids.items()}})
    return True


def _tinysafe(recipe: Recipe, network: nn.Module, out: Path) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if recipe.published == "v1":  # its heads stand in a Sequential, after a dropout
        state = {re.sub(r"^(binary|category)_head\.", r"\1_head.1.", name): value for name, value in state.items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    backbone: Any = network.backbone
    backbone.config.save_pretrained(out)


def _classifier(saved: nn.Module, base: Base, out: Path) -> None:
    whole: Any = saved
    if hasattr(whole, "peft_config"):
        _round((parameter for parameter in whole.parameters() if parameter.requires_grad), torch.float16)
        whole.save_pretrained(str(out))
        weights = {name: value.half().contiguous() for name, value in load_file(out / ADAPTER).items()}
        save_file(weights, out / ADAPTER, metadata={"format": "pt"})
        (out / CARD_OF_PEFT).unlink(missing_ok=True)
        config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
        _write(out / "adapter_config.json", config | {"base_model_name_or_path": base.reference})
        return
    _round(whole.parameters(), torch.bfloat16)
    # A copy is saved: cast in place, the live network would keep rounded rotary frequencies.
    copy.deepcopy(whole).bfloat16().save_pretrained(str(out))


def _round(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    """Rounds live weights as the file's are: what is measured afterwards is what the file says."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(parameter.to(dtype).float())


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
