"""A system that people publish checkpoints of: how its folder is told from others, described and loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stages.contents import Contents
from stages.encoder import NetworkStage
from stages.manifest import revision_of
from stages.stage import ModelInfo


class LoadPublished(Protocol):
    """Loads a folder that the system recognised."""

    def __call__(self, folder: Path, *, device: str, dtype: str | None) -> NetworkStage:
        """The stage, on the CPU or on a GPU.

        Raises:
            ModelError: a file is missing, damaged, or does not fit the others; the message names it.
            DependencyError: torch, or the device, is not there.
        """


@dataclass(frozen=True)
class System:
    """One system.

    Attributes:
        name: what the model is called, for instance "tinysafe-v1".
        kind: which family of stages it belongs to.
        taxonomy: name and version of its labels.
        labels: its labels in the order of its outputs, in the names of :mod:`stages.taxonomy`.
        base: the backbone that it was trained from.
        licence: the terms of the published weights.
        window_tokens: how many tokens it reads at once, special ones included.
        scripts: what it reads; ("*",) for every script.
        judges: see :class:`stages.stage.ModelInfo`.
        recognises: whether a folder is one of this system's, by what is in it.
        load: loads such a folder.
        base_files: SHA-256 of what the model takes from outside its folder, its base's weights for instance.
    """

    name: str
    kind: str
    taxonomy: str
    labels: tuple[str, ...]
    base: str
    licence: str
    window_tokens: int
    recognises: Callable[[Contents], bool]
    load: LoadPublished
    scripts: tuple[str, ...] = ("Latin",)
    judges: bool = True
    base_files: Callable[[Contents], dict[str, str]] = lambda contents: {}

    def info(self, contents: Contents, *, device: str = "cpu", runtime: str = "") -> ModelInfo:
        """What is known of a folder's model, with the hashes of all its files.

        Raises:
            ModelError: the model is made of a base too, which is not at hand.
        """
        files = contents.hashes | self.base_files(contents)
        return ModelInfo(
            name=self.name,
            kind=self.kind,
            revision=revision_of(files),
            files=files,
            taxonomy=self.taxonomy,
            labels=self.labels,
            device=device,
            runtime=runtime,
            licence=self.licence,
            window_tokens=self.window_tokens,
            scripts=self.scripts,
            judges=self.judges,
        )
