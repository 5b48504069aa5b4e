"""The manifest of a model folder: what the model is, the hashes of its files, and the scores that it must replay."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stages.errors import ModelError
from stages.stage import ModelInfo

NAME = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingSet(_Part):
    """A data set that the weights saw."""

    name: str
    licence: str


class Golden(_Part):
    """A text of our own with its raw logits: the binary head's, then one for each label."""

    text: str
    unsafe: float
    labels: list[float]


class Scale(_Part):
    """A calibrator: :class:`stages.stage.Platt`, with knots :class:`stages.stage.Isotonic` on top of it."""

    slope: float = Field(gt=0)
    bias: float
    knots: list[tuple[float, float]] = []

    @field_validator("knots")
    @classmethod
    def _rise(cls, knots: list[tuple[float, float]]) -> list[tuple[float, float]]:
        if any(not (x0 < x1 and y0 < y1) for (x0, y0), (x1, y1) in pairwise(knots)):
            raise ValueError("knots must rise strictly")
        return knots


class CalibrationNumbers(_Part):
    """See :class:`stages.stage.Calibration`."""

    unsafe: Scale
    labels: list[Scale]
    length_penalty: float = Field(default=0.0, ge=0)
    label_length_penalties: list[Annotated[float, Field(ge=0)]] = []

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if self.label_length_penalties and len(self.label_length_penalties) != len(self.labels):
            raise ValueError(f"{len(self.label_length_penalties)} length penalties for {len(self.labels)} labels")
        return self


class OnRuntime(_Part):
    """What holds for a model on another runtime than ONNX Runtime: fitted there, and scored there."""

    calibration: CalibrationNumbers
    calibrated_on: str
    golden: list[Golden]


class Manifest(_Part):
    """What lies in a model folder. ``files`` maps each path to its SHA-256; ``tolerance`` is in raw logits.

    ``calibration`` and ``golden`` are ONNX Runtime's. ``runtimes`` has those of others by :attr:`ModelInfo.runtime`.
    """

    name: str
    kind: str
    revision: str
    files: dict[str, str]
    taxonomy: str
    labels: list[str]
    base: str
    licence: str
    training_sets: list[TrainingSet]
    metrics: dict[str, float]
    window_tokens: int
    overlap: int
    pad_id: int
    scripts: list[str] = ["Latin"]  # what it reads; ["*"] for every script
    quantisation: str
    calibration: CalibrationNumbers
    calibrated_on: str
    golden: list[Golden]
    tolerance: float
    judges: bool = True  # False: it names hazards but cannot tell safe from unsafe
    runtimes: dict[str, OnRuntime] = {}

    @model_validator(mode="after")
    def _same_labels(self) -> Self:
        for name, own in self.runtimes.items():
            if {len(own.calibration.labels), *(len(golden.labels) for golden in own.golden)} != {len(self.labels)}:
                raise ValueError(f"runtimes.{name} is not of {len(self.labels)} labels")
        return self

    def calibration_on(self, runtime: str) -> CalibrationNumbers:
        """The calibration for a runtime: its own, or ONNX Runtime's."""
        own = self.runtimes.get(runtime)
        return own.calibration if own else self.calibration

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Reads ``folder/manifest.json``.

        Raises:
            ModelError: there is none, or it is not valid.
        """
        path = folder / NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise ModelError(f"{folder}: no model folder, it has no {NAME}") from error
        except ValidationError as error:
            raise ModelError(f"{path}: {first_problem(error)}") from error
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from error

    def info(self) -> ModelInfo:
        """What the model is, as ONNX Runtime serves it."""
        return ModelInfo(
            name=self.name,
            kind=self.kind,
            revision=self.revision,
            files=dict(self.files),
            taxonomy=self.taxonomy,
            labels=tuple(self.labels),
            device="cpu",
            runtime=f"onnxruntime-{self.quantisation}",
            licence=self.licence,
            window_tokens=self.window_tokens,
            scripts=tuple(self.scripts),
            judges=self.judges,
        )

    def save(self, folder: Path) -> None:
        """Writes ``folder/manifest.json``."""
        left_out = None if self.runtimes else {"runtimes"}  # which earlier releases do not know
        text = json.dumps(self.model_dump(exclude=left_out), indent=1, ensure_ascii=False)
        (folder / NAME).write_text(text + "\n", encoding="utf-8")

    def verify(self, folder: Path) -> None:
        """Compares the hash of every file with the manifest's.

        Raises:
            ModelError: a file is missing or differs; the message names it.
        """
        for name, expected in self.files.items():
            path = folder / name
            if not path.is_file():
                raise ModelError(f"{folder}: {name} is missing")
            found = file_hash(path)
            if found != expected:
                raise ModelError(f"{path}: SHA-256 is {found}, the manifest says {expected}")
        if revision_of(self.files) != self.revision:
            raise ModelError(f"{folder}: the revision {self.revision} does not belong to these files")


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, on one line: its key and why, without the value, and how many more there are."""
    first, *more = error.errors(include_input=False, include_url=False)
    key = ".".join(map(str, first["loc"]))
    return f"{key}: {first['msg']}".removeprefix(": ") + (f" (and {len(more)} more)" if more else "")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def revision_of(files: dict[str, str]) -> str:
    """The revision that a set of files has: 12 hex digits over their paths and hashes."""
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]
