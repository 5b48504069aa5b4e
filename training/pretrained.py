"""Loads a backbone's pretrained weights by transformers: all of them, or an error in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from stages.errors import ModelError, first_line

HEADS = ("head", "classifier", "score", "pooler")  # how the modules end that stand on a backbone


def configuration(folder: Path, what: str, **changes: Any) -> PreTrainedConfig:
    """A folder's configuration; ``what`` is to be made of it.

    Raises:
        ModelError: it is not one that transformers knows.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, **changes)
    except ImportError:
        raise
    except Exception as error:  # transformers raises bare errors of many kinds
        raise ModelError(f"{folder}: no {what} that transformers can load ({first_line(error)})") from error
    return config  # type: ignore[no-any-return]


def load(
    auto: Any, folder: Path, config: PreTrainedConfig, what: str, *, heads: bool = False, **options: Any
) -> PreTrainedModel:
    """The network in float32, with every weight out of the folder.

    Args:
        auto: the class of transformers that finds the network's own.
        folder: the backbone's.
        config: how it is built.
        what: it is, for errors.
        heads: whether weights of heads may be missing, which then start random.
        options: more for ``from_pretrained``.

    Raises:
        ModelError: a file is missing or damaged, or lacks weights that the configuration asks for.
    """
    try:
        network, report = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention(),
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except ImportError:
        raise
    except Exception as error:  # transformers raises bare errors of many kinds
        raise ModelError(f"{folder}: no {what} that transformers can load ({first_line(error)})") from error
    lacking = sorted(name for name in report["missing_keys"] if not (heads and is_head(name)))
    if lacking:
        raise ModelError(f"{folder}: its weights lack {', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}")
    return network  # type: ignore[no-any-return]


def is_head(name: str) -> bool:
    """Whether a weight of that name belongs to what stands on a backbone."""
    return any(part.endswith(HEADS) for part in name.split("."))


def attention() -> str | None:
    """The attention to train with: eager on a CPU, whose backward pass is the faster one there; else the default."""
    return None if torch.cuda.is_available() else "eager"
