"""Which models a server loaded, and when: *folder, fingerprint* -> a line of history that outlives the server.

    FOLDER/models.json      beside the policies, see cascade.policy.ledger

The files stay where they lie: a revision can be restored as long as its folder has them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cascade.errors import CascadeError
from cascade.policy.ledger import replace_file
from cascade.serve.sources import folder_of

KEPT = 200  # entries

log = logging.getLogger(__name__)


class Loaded(BaseModel):
    """A model that was loaded from a folder.

    Attributes:
        stage: "stage1" or "stage2".
        fingerprint: of its files, see :func:`cascade.policy.fingerprint.fingerprint`.
        given: what the server was told to load: an embedded name, a folder, or a link to one.
        folder: where that led.
        at: when it was applied.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    fingerprint: str
    given: str
    folder: Path
    at: datetime

    @property
    def revision(self) -> str:
        """The revision that a manifest gives these files."""
        return self.fingerprint[:12]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    loaded: list[Loaded]


def read(state: Path) -> list[Loaded]:
    """What was loaded, the oldest first; nothing where no history was kept.

    Raises:
        CascadeError: the history cannot be read.
    """
    path = state / "models.json"
    if not path.exists():
        return []
    try:
        return _File.model_validate_json(path.read_bytes()).loaded
    except (OSError, ValidationError) as error:
        raise CascadeError(f"{path} cannot be read: {error}") from error


def record(state: Path, models: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Adds the models that are not those of before. What fails is logged: the models are loaded all the same.

    Args:
        state: the folder of the history.
        models: what the server was told to load, by stage.
        found: the fingerprint of what it has loaded, by stage.
    """
    try:
        history = read(state)
        latest = {entry.stage: (entry.fingerprint, entry.folder) for entry in history}
        now = datetime.now(UTC)
        news = []
        for stage, given in models.items():
            folder = folder_of(given).resolve()
            if stage in found and folder.is_dir() and latest.get(stage) != (found[stage], folder):
                shown = given if folder_of(given) != Path(given) else str(Path(given).absolute())
                news.append(Loaded(stage=stage, fingerprint=found[stage], given=shown, folder=folder, at=now))
        if news:
            kept = _File(loaded=[*history, *news][-KEPT:])
            replace_file(state / "models.json", kept.model_dump_json(indent=1) + "\n")
    except (CascadeError, OSError) as error:
        log.warning("the history of models cannot be written", extra={"error": str(error)})
