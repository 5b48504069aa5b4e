"""Reads a published TinySafe checkpoint into a network (torch): state dict, backbone configuration, heads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import DebertaV2Config, DebertaV2Model

from stages.contents import Contents
from stages.errors import ModelError
from stages.runtime.torch import TorchNetwork
from stages.taxonomy import TINYSAFE_CATEGORIES
from stages.tinysafe.network import TinySafeNetwork

CONFIGS = ("config.json", "backbone/config.json", "tokenizer/config.json")
HEAD_WIDTH = 64  # of an attention head in every DeBERTa-v3
# What deberta-v3-xsmall, -small, -base and -large share; the rest shows in the shapes.
DEBERTA_V3: dict[str, Any] = {
    "layer_norm_eps": 1e-7,
    "max_position_embeddings": 512,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "relative_attention": True,
    "share_att_key": True,
    "type_vocab_size": 0,
}
EMBEDDINGS = "backbone.embeddings.word_embeddings.weight"
POSITIONS = "backbone.encoder.rel_embeddings.weight"
FIRST_LAYER = "backbone.encoder.layer.0.intermediate.dense.weight"
LAYER = re.compile(r"backbone\.encoder\.layer\.(\d+)\.")


def load_network(contents: Contents, weights: str, largest_id: int, *, device: str, dtype: str | None) -> TorchNetwork:
    """The network of a folder's weights; ``largest_id`` is the largest id of its tokenizer.

    Raises:
        ModelError: the weights are damaged, or do not fit the configuration or the tokenizer; the message names the
            file.
        DependencyError: there is no such device.
    """
    path = contents.folder / weights
    state = _named_as_v2(read_state(path))
    if EMBEDDINGS not in state:
        raise ModelError(f"{path}: it has no {EMBEDDINGS}, so its backbone is no DeBERTa")
    rows = state[EMBEDDINGS].shape[0]
    if largest_id >= rows:
        raise ModelError(
            f"{path}: embeddings for {rows} tokens, but the tokenizer beside it has ids up to {largest_id}"
        )
    config = _config(contents, state, path)
    backbone = DebertaV2Model(config)
    network = TinySafeNetwork(backbone, hidden=config.hidden_size, labels=len(TINYSAFE_CATEGORIES), pooling="first")
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{path}: {_first_problem(error)}") from error
    return TorchNetwork(network, device=device, dtype=dtype, pad_id=config.pad_token_id or 0)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file or in a ``.pt`` file, bare or under ``model_state_dict``.

    Raises:
        ModelError: the file is damaged, or holds more than tensors, numbers and texts.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: not a safetensors file ({error})") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises errors of many kinds over a damaged file
        raise ModelError(f"{path}: torch does not load it safely ({type(error).__name__})") from error
    state = found.get("model_state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: it holds no state dict, neither bare nor under model_state_dict")
    return dict(state)


def _named_as_v2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict under v2's names: v1's heads stand in a Sequential, and old files hold a constant as well."""
    names = {name: re.sub(r"^(binary|category)_head\.1\.", r"\1_head.", name) for name in state}
    return {
        names[name]: tensor.float() for name, tensor in state.items() if not name.endswith("embeddings.position_ids")
    }


def _config(contents: Contents, state: Mapping[str, Tensor], path: Path) -> DebertaV2Config:
    """The backbone's configuration: the folder's or, where there is none, DeBERTa-v3's of the shapes found."""
    for name in CONFIGS:
        if name in contents.files:
            given = contents.json(name)
            if given.get("model_type") != "deberta-v2":
                raise ModelError(f"{contents.folder / name}: model_type {given.get('model_type')!r}, not deberta-v2")
            try:
                return DebertaV2Config.from_dict(given)
            except Exception as error:  # transformers' checks raise errors of several libraries
                raise ModelError(f"{contents.folder / name}: {_line(error)}") from error
    layers = {int(match[1]) for match in map(LAYER.match, state) if match}
    missing = [name for name in (POSITIONS, FIRST_LAYER) if name not in state]
    if missing:
        raise ModelError(f"{path}: it has no {missing[0]}, so its backbone is no DeBERTa-v3")
    (vocabulary, hidden), positions = state[EMBEDDINGS].shape, state[POSITIONS].shape[0]
    if hidden % HEAD_WIDTH:
        raise ModelError(f"{path}: {hidden} wide, which is no DeBERTa-v3; put its config.json beside it")
    found = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": max(layers) + 1,
        "num_attention_heads": hidden // HEAD_WIDTH,
        "intermediate_size": state[FIRST_LAYER].shape[0],
        "position_buckets": positions // 2,
    }
    return DebertaV2Config.from_dict(DEBERTA_V3 | found)


def _first_problem(error: RuntimeError) -> str:
    """The first of the problems that load_state_dict lists, without its heading."""
    lines = [line.strip() for line in str(error).splitlines()]
    return lines[1] if len(lines) > 1 else lines[0]


def _line(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())
