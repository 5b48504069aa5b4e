"""The hazard network as its parts, run without merging: one resident 4-bit base, adapters and a head for each (torch).

Layout of a model folder beside its merged ``model.onnx``:

    base/config.json               the backbone's transformers configuration
    base/model.q4.safetensors      NAME.q4 and NAME.scale for each 4-bit matrix (see stages.hazard.q4), else NAME
    adapter/adapter_config.json    PEFT's
    adapter/adapter_model.safetensors   LoRA matrices and the head, float16
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from stages.errors import ModelError
from stages.hazard import q4
from stages.hazard.network import HazardHead
from stages.manifest import file_hash
from stages.stage import Window
from stages.tinysafe.network import mean_pool

BASE, ADAPTER = "base/model.q4.safetensors", "adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
DEFAULT = "default"

_PREFIX = "base_model.model."  # PEFT's, before the names of the network that it wrapped in training
_BACKBONE, _HEAD = f"{_PREFIX}backbone.", f"{_PREFIX}head."


class AdaptedNetwork(nn.Module):
    """A backbone with several adapters of which each row of a batch may have another one.

    PEFT mixes adapters inside the backbone (``adapter_names``); its ``modules_to_save`` cannot mix a head with two
    outputs, so the heads stand here.
    """

    def __init__(self, backbone: PreTrainedModel, labels: int) -> None:
        super().__init__()
        self.base: PreTrainedModel = backbone
        self.backbone: PeftModel | None = None
        self.heads = nn.ModuleDict()
        self._labels = labels

    def add(self, name: str, folder: Path) -> None:
        """Loads an adapter folder under a name; "" is the default one, which comes first.

        Raises:
            ModelError: no adapter, or one for another base or other labels. The network is of no use then.
        """
        config, matrices, head = _read(folder)
        fresh = HazardHead(self.base.config.hidden_size, self._labels, dropout=0.0)
        try:
            fresh.load_state_dict(head)
        except RuntimeError as error:
            raise ModelError(f"{folder}: its head is not one of {self._labels} labels for this base") from error
        key = _key(name)
        try:
            if self.backbone is None:
                with warnings.catch_warnings():  # PEFT asks transformers for an attribute by its old name
                    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
                    self.backbone = get_peft_model(self.base, config, adapter_name=key)
            else:
                self.backbone.add_adapter(key, config)
            self._check(key, matrices, folder)
            set_peft_model_state_dict(self.backbone, matrices, adapter_name=key)
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"{folder}: an adapter for another base ({str(error).splitlines()[0]})") from error
        self.heads[key] = fresh

    def _check(self, key: str, matrices: Mapping[str, Tensor], folder: Path) -> None:
        """Refuses matrices that are not exactly those that the adapter's places in this base want."""
        wanted = {
            name.replace(f".{key}.", "."): tuple(value.shape)
            for name, value in self.backbone.state_dict().items()  # type: ignore[union-attr]
            if f".{key}." in name and ".lora_" in name
        }
        found = {name: tuple(value.shape) for name, value in matrices.items()}
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        if wrong:
            raise ModelError(
                f"{folder}: an adapter for another base: {wrong[0]} is {found.get(wrong[0], 'missing')} in it, "
                f"here {wanted.get(wrong[0], 'unknown')}"
            )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, adapters: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, tokens] -> binary logits [batch] and hazard logits [batch, labels].

        ``adapters`` has a name for each row; None is the default adapter for all.
        """
        assert self.backbone is not None, "add() comes first"
        keys = [_key(name) for name in adapters or [""] * len(input_ids)]
        mixed: dict[str, Any] = {} if set(keys) == {_key("")} else {"adapter_names": keys}
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **mixed).last_hidden_state
        pooled = mean_pool(states.float(), attention_mask)
        if len(set(keys)) == 1:
            return self._judge(keys[0], pooled)
        binary, hazards = pooled.new_empty(len(keys)), pooled.new_empty(len(keys), self._labels)
        for key in dict.fromkeys(keys):
            rows = [row for row, other in enumerate(keys) if other == key]
            binary[rows], hazards[rows] = self._judge(key, pooled[rows])
        return binary, hazards

    def _judge(self, key: str, pooled: Tensor) -> tuple[Tensor, Tensor]:
        head = self.heads[key]
        binary, hazards = head(pooled.to(next(head.parameters()).dtype))
        return binary.float(), hazards.float()


def _key(name: str) -> str:
    """The name inside torch's containers, where "keys" and the like are taken."""
    return f"adapter_{name}" if name else DEFAULT


def load_base(folder: Path, *, attention: str = "eager") -> PreTrainedModel:
    """The backbone of a model folder, unpacked to float32.

    Args:
        folder: the model folder.
        attention: transformers' name of the attention, "eager" or "sdpa". On CPUs the backward pass of the first is
            faster; to serve, take the second.

    Raises:
        ModelError: the folder has no base.
    """
    if not (folder / BASE).is_file():
        raise ModelError(f"{folder}: no base in it ({BASE})")
    config = AutoConfig.from_pretrained(folder / "base", local_files_only=True, attn_implementation=attention)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    backbone = AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-untyped-call]
    stored = load_arrays(folder / BASE)
    weights = {name: value for name, value in stored.items() if not name.endswith((".q4", ".scale"))} | {
        name.removesuffix(".q4"): q4.decode(value, stored[f"{name.removesuffix('.q4')}.scale"])
        for name, value in stored.items()
        if name.endswith(".q4")
    }
    backbone.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return backbone  # type: ignore[no-any-return]


def load_adapted(
    folder: Path, labels: int, *, adapters: Mapping[str, Path] | None = None, attention: str = "eager"
) -> AdaptedNetwork:
    """The hazard network of a model folder, base and adapters, unmerged, in evaluation mode.

    Args:
        folder: the model folder; its own adapter is the default.
        labels: how many hazards there are.
        adapters: more adapters by name: adapter folders, or model folders that hold one.
        attention: see :func:`load_base`.

    Raises:
        ModelError: the folder has no base or adapter, or an adapter does not belong to the base.
    """
    if not (folder / BASE).is_file() or not (folder / ADAPTER / CONFIG).is_file():
        raise ModelError(f"{folder}: no base and adapter in it")
    network = AdaptedNetwork(load_base(folder, attention=attention), labels)
    network.add("", folder / ADAPTER)
    for name, path in (adapters or {}).items():
        found = adapter_folder(path)
        _check_base(found, folder)
        network.add(name, found)
    return network.eval()


def adapter_folder(path: Path) -> Path:
    """The adapter folder that a path means: itself, or the adapter of a model folder.

    Raises:
        ModelError: neither.
    """
    for folder in (path, path / ADAPTER):
        if (folder / CONFIG).is_file():
            return folder
    raise ModelError(f"{path}: no adapter, it has no {CONFIG}")


def _read(folder: Path) -> tuple[LoraConfig, dict[str, Tensor], dict[str, Tensor]]:
    """An adapter's configuration, its matrices under the names that they have in a wrapped backbone, and its head."""
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
            raise ModelError(f"{folder / CONFIG}: not the configuration of a LoRA adapter")
        known = set(LoraConfig.__dataclass_fields__)
        settings = {key: value for key, value in settings.items() if key in known}
        # The head is kept outside PEFT, and what the configuration says of the class that it wrapped holds no more.
        gone: dict[str, Any] = dict.fromkeys(("modules_to_save", "auto_mapping", "base_model_name_or_path"))
        config = LoraConfig(**settings | gone | {"inference_mode": True})
        tensors = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}: no adapter that PEFT can load ({str(error).splitlines()[0]})") from error
    matrices = {_PREFIX + name.removeprefix(_BACKBONE): tensors[name] for name in tensors if name.startswith(_BACKBONE)}
    head = {name.removeprefix(_HEAD): tensors[name] for name in tensors if name.startswith(_HEAD)}
    rest = sorted(name for name in tensors if not name.startswith((_BACKBONE, _HEAD)))
    if rest or not matrices or not head:
        what = f"it has {rest[0]}" if rest else "it has no LoRA matrices" if not matrices else "it has no head"
        raise ModelError(f"{folder / WEIGHTS}: not an adapter of the hazard network: {what}")
    return config, matrices, head


def _check_base(adapter: Path, model: Path) -> None:
    """Refuses an adapter that lies beside another base than the model's. One without a base is told by its shapes."""
    settings = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    named = str(settings.get("base_model_name_or_path") or "") if isinstance(settings, dict) else ""
    beside = adapter / named / Path(BASE).name
    if named and beside.is_file() and file_hash(beside) != file_hash(model / BASE):
        raise ModelError(f"{adapter}: an adapter for another base than {model}'s")


def run_adapted(
    network: nn.Module, input_ids: Tensor, attention_mask: Tensor, windows: Sequence[Window]
) -> tuple[Tensor, Tensor]:
    """Runs the network with each window's own adapter; for :class:`stages.runtime.torch.TorchNetwork`."""
    binary, hazards = network(input_ids, attention_mask, [window.adapter for window in windows])
    return binary, hazards
