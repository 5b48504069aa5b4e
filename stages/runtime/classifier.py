"""Sequence classifiers of transformers, with a LoRA adapter merged in where there is one (torch, transformers, peft).

*folder* -> files checked -> network with every weight out of the files, or an error: nothing stays random.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from stages.checkpoint import ADAPTER, ADAPTER_CONFIG, require, weight_files
from stages.contents import Contents
from stages.errors import ModelError, first_line

# What of an adapter_config.json makes the network; of the rest only what is as PEFT's default may stand there.
USED = {
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "bias",
    "fan_in_fan_out",
    "use_rslora",
    "use_dora",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "task_type",
}
HARMLESS = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "auto_mapping",
    "peft_type",
    "peft_version",
    "lora_dropout",
    "megatron_core",
    "loftq_config",
    "qalora_group_size",
}
PREFIX = "base_model.model."


def load_classifier(contents: Contents, *, labels: int, dtype: torch.dtype) -> PreTrainedModel:
    """The classifier of a folder with all its weights.

    Raises:
        ModelError: a file is missing, damaged, or does not fit ``config.json``.
    """
    network, missing = _load(contents, labels, dtype)
    if missing:
        raise ModelError(f"{contents.folder}: the weights lack {_some(missing)}")
    return network


def load_adapted(contents: Contents, base: Contents, *, labels: int, dtype: torch.dtype) -> PreTrainedModel:
    """The classifier of a base with an adapter folded into it; the head comes out of the adapter.

    Raises:
        ModelError: a file is missing or damaged, or the adapter was made for another base.
    """
    path = require(contents, ADAPTER)
    config = _lora(contents)
    shapes = contents.shapes(ADAPTER)
    network, missing = _load(base, labels, dtype)
    brought = {name.removeprefix(PREFIX) for name in shapes}
    if missing - brought:
        raise ModelError(f"{path}: neither it nor its base {base.folder} has {_some(missing - brought)}")
    _compare(network, shapes, f"{path}: made for another base than {base.folder}")
    with _quiet():
        try:
            adapted = get_peft_model(network, config)
            result: Any = set_peft_model_state_dict(adapted, load_file(path))
        except Exception as error:  # PEFT raises bare errors of many kinds
            raise ModelError(f"{path}: PEFT cannot apply it ({first_line(error)})") from error
        lacking = {name for name in result.missing_keys if "lora_" in name or "modules_to_save" in name}
        if lacking or result.unexpected_keys:
            raise ModelError(
                f"{path}: {ADAPTER_CONFIG} asks for other tensors: {_some(lacking | {*result.unexpected_keys})}"
            )
        return cast(PreTrainedModel, adapted.merge_and_unload())


class LastToken(nn.Module):
    """A decoder for classification that pools at the last position of the attention mask: ids, mask -> logits.

    The class in transformers looks for the last id that is not the padding id instead. Where the padding id is also
    the end of a text, as DuoGuard has it, it then skips over ends that belong to the text, and refuses batches where
    no padding id is set.
    """

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.body: nn.Module = getattr(classifier, classifier.base_model_prefix)
        self.score: nn.Linear = classifier.get_submodule("score")  # type: ignore[assignment]  # without a bias

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask [batch, tokens], padded on either side -> logits [batch, labels]."""
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        last = (positions * attention_mask).argmax(-1)
        pooled = states[torch.arange(len(last), device=last.device), last]
        return functional.linear(pooled.float(), self.score.weight.float())  # bfloat16 would leave 8 bits of a logit


def _load(contents: Contents, labels: int, dtype: torch.dtype) -> tuple[PreTrainedModel, set[str]]:
    """The classifier, and the names of what its files do not hold."""
    for name in weight_files(contents):
        contents.shapes(name)  # raises where a file is cut off
    require(contents, "config.json")
    folder, offline = str(contents.folder), {"local_files_only": True, "trust_remote_code": False}
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(folder, num_labels=labels, **offline)
            network, report = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                output_loading_info=True,
                **offline,
            )
        except ImportError:
            raise
        except Exception as error:  # transformers raises bare errors of many kinds
            raise ModelError(f"{contents.folder}: the weights do not fit config.json ({first_line(error)})") from error
    return network, set(report["missing_keys"])


def _lora(contents: Contents) -> LoraConfig:
    """PEFT's configuration, out of the fields that are known to be plain numbers and names."""
    path, given = contents.folder / ADAPTER_CONFIG, contents.adapter
    if given.get("peft_type") != "LORA" or given.get("task_type") != "SEQ_CLS":
        raise ModelError(f"{path}: not a LoRA adapter for sequence classification")
    if given.get("init_lora_weights", True) not in (True, False, "gaussian"):
        raise ModelError(
            f"{path}: init_lora_weights {given['init_lora_weights']!r} changes the base, which is not supported"
        )
    defaults = {field.name: field.default for field in fields(LoraConfig)}
    for name, value in given.items():
        if name in USED or name in HARMLESS or name == "init_lora_weights" or not value:
            continue
        if defaults.get(name, MISSING) != value:
            raise ModelError(f"{path}: {name} = {value!r} is not supported")
    try:
        return LoraConfig(inference_mode=True, **{name: given[name] for name in USED if given.get(name) is not None})
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: {first_line(error)}") from error


def _compare(network: nn.Module, shapes: Mapping[str, tuple[int, ...]], complaint: str) -> None:
    """Raises a ModelError where a LoRA matrix or a head has no place in the network, or another shape."""
    weights = {name: tuple(value.shape) for name, value in network.named_parameters()}
    for key, shape in shapes.items():
        name = key.removeprefix(PREFIX)
        layer, _, kind = name.partition(".lora_")
        there = weights.get(f"{layer}.weight" if kind else name)
        if there is None:
            raise ModelError(f"{complaint}, which has no {layer}")
        # A is [rank, inputs], B is [outputs, rank]; a Linear's weight is [outputs, inputs].
        fits = {"A": shape[1:] == there[1:], "B": shape[:1] == there[:1]}.get(kind[:1], shape == there or bool(kind))
        if not fits:
            raise ModelError(f"{complaint}: {key} is {list(shape)}, {layer} there is {list(there)}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and reports of transformers and PEFT: what matters of them becomes an error."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for what it renamed
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _some(names: set[str]) -> str:
    """A few names, and how many more there are."""
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
