"""Weights, tokenizers and bases of published checkpoints as files: found and checked without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages import hub
from stages.contents import SAFETENSORS_INDEX, Contents
from stages.errors import ModelError
from stages.manifest import file_hash
from stages.runtime.tokens import WindowTokenizer

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PICKLED = {WEIGHTS: "pytorch_model.bin", ADAPTER: "adapter_model.bin"}
OVERLAP = 32  # tokens that neighbouring windows share


def weight_files(contents: Contents) -> list[str]:
    """The safetensors files of a model, one or its shards.

    Raises:
        ModelError: there is none, or a shard is missing.
    """
    names = {WEIGHTS}
    if SAFETENSORS_INDEX in contents.files:
        places = contents.json(SAFETENSORS_INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise ModelError(
                f"{contents.folder / SAFETENSORS_INDEX}: its weight_map does not say where the tensors are"
            )
        names = set(places.values())
    for name in names:
        require(contents, name)
    return sorted(names)


def may_hold(contents: Contents, tensor: str) -> bool:
    """Whether a model's weights have a tensor of this name, or are a pickle, which nobody looks into."""
    return tensor in contents.tensors or (not contents.tensors and PICKLED[WEIGHTS] in contents.files)


def rows_of(contents: Contents) -> int:
    """How many rows the embedding table has by ``config.json``.

    Raises:
        ModelError: it does not say so.
    """
    rows = contents.config.get("vocab_size")
    if not isinstance(rows, int) or rows < 1:
        raise ModelError(f"{require(contents, 'config.json')}: vocab_size is {rows!r}, not a number of rows")
    return rows


def targets(contents: Contents) -> tuple[str, ...]:
    """Which layers an adapter changes, as its configuration names them; empty for a folder that is no adapter."""
    given = contents.adapter.get("target_modules")
    names = [given] if isinstance(given, str) else given
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def require(contents: Contents, name: str) -> Path:
    """The path of a file.

    Raises:
        ModelError: it is missing; a pickle in its place is named and not opened.
    """
    if name in contents.files:
        return contents.folder / name
    pickled = PICKLED.get(name, "")
    if pickled in contents.files:
        raise ModelError(f"{contents.folder / pickled}: a pickle can run code; only {name} is read, convert it first")
    raise ModelError(f"{contents.folder}: {name} is missing")


def shapes(contents: Contents) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all of a model's tensors.

    Raises:
        ModelError: a file is missing or cut off.
    """
    return {key: shape for name in weight_files(contents) for key, shape in contents.shapes(name).items()}


def base_of(contents: Contents, *model_types: str) -> Contents:
    """The base of an adapter: the path in its configuration, relative to its folder, or the hub id.

    Raises:
        ModelError: none is named, it is not at hand, or not of one of the ``model_types`` that are asked for.
    """
    path = contents.folder / ADAPTER_CONFIG
    name = contents.adapter.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{path}: names no base model")
    local = contents.folder / name
    if not local.is_dir() and not hub.is_hub_id(name):
        raise ModelError(f"{path}: there is no folder {name}; write the path of the base model there, or its hub id")
    try:
        base = Contents(local if local.is_dir() else hub.folder_of(name))
    except ModelError as error:
        raise ModelError(
            f"{path}: base {name} is not at hand; put it into the hub's cache, or write its path there ({error})"
        ) from error
    if base.adapter:
        raise ModelError(f"{path}: {base.folder} is an adapter too, not a base model")
    found = base.config.get("model_type")
    if model_types and found not in model_types:
        wanted = " or ".join(model_types)
        raise ModelError(f"{path}: the base {base.folder} is a {found} model, this adapter is for {wanted}")
    return base


def adapted_files(contents: Contents) -> dict[str, str]:
    """SHA-256 of the files of its base that an adapter uses, under ``base/``.

    Raises:
        ModelError: the base is not at hand.
    """
    base = base_of(contents)
    names = ["config.json", *weight_files(base)]
    if TOKENIZER not in contents.files:
        names.append(TOKENIZER)
    return {f"base/{name}": file_hash(require(base, name)) for name in names}


def open_tokenizer(path: Path, *, window_tokens: int, rows: int, filler: int | None = None) -> WindowTokenizer:
    """The tokenizer of a model whose embedding table has ``rows`` rows.

    Raises:
        ModelError: it is none, or gives ids that the table does not have.
    """
    tokenizer = WindowTokenizer(path, window_tokens=window_tokens, overlap=OVERLAP, filler=filler)
    if tokenizer.largest_id >= rows:
        raise ModelError(
            f"{path}: gives ids up to {tokenizer.largest_id}, the embedding table has {rows} rows: "
            "it is another model's tokenizer"
        )
    return tokenizer


def end_token(config: dict[str, Any], rows: int) -> int:
    """The id that ends a text by ``config.json``; 0 where it names none in the embedding table."""
    end = config.get("eos_token_id")
    first = end[0] if isinstance(end, list) and end else end
    return first if isinstance(first, int) and 0 <= first < rows else 0
