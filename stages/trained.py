"""What ``cascade train`` knows of a model that it saved in its system's published layout: ``trained.json``.

Without this file such a folder would pass for its publisher's model, under the publisher's terms.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from stages.errors import ModelError
from stages.manifest import CalibrationNumbers, TrainingSet, first_problem
from stages.stage import ModelInfo

NAME = "trained.json"


class Trained(BaseModel):
    """Where the weights come from, and their calibration where one was fitted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    base: str
    licence: str
    training_sets: list[TrainingSet]
    metrics: dict[str, float] = {}
    calibration: CalibrationNumbers | None = None
    base_files: dict[str, str] = {}  # SHA-256 of the base's weights where they lie outside the folder

    @classmethod
    def load(cls, folder: Path) -> Trained | None:
        """Reads ``folder/trained.json``; None where there is none.

        Raises:
            ModelError: it is not valid.
        """
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ModelError(f"{path}: {first_problem(error)}") from error
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from error

    def save(self, folder: Path) -> None:
        """Writes ``folder/trained.json``."""
        (folder / NAME).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def info(self, published: ModelInfo) -> ModelInfo:
        """What the model is, where the system alone would say what its publisher's is."""
        return replace(published, name=self.name, licence=self.licence)
