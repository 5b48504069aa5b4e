"""The memory of a job, in a folder beside its output: which batches hold which requests, and what came back.

``state.json`` names the batches; it is written before and after each submission. ``chunk-N.jsonl`` holds the answers of
one batch and appears when all of them were fetched.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.data.llm.client import LabellerError
from training.data.llm.prices import Usage
from training.data.writing import writing

VERSION = 1
OK, REFUSED, CUT, REJECTED, MALFORMED = "ok", "refused", "cut", "rejected", "malformed"
ERRORED, EXPIRED, CANCELED, MISSING = "errored", "expired", "canceled", "missing"
AGAIN = frozenset({ERRORED, EXPIRED, MISSING})  # nothing was paid and another try may succeed


@dataclass(frozen=True)
class Reply:
    """What became of a request. ``text`` is the answer, ``error`` the API's name for what went wrong."""

    key: str
    outcome: str
    text: str = ""
    error: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass
class Chunk:
    """The requests of one batch. ``intent`` is the time before it was submitted, ``batch`` its id since then."""

    number: int
    round: int
    keys: list[str]
    intent: str | None = None
    batch: str | None = None


@dataclass
class State:
    """A job's chunks; ``nonce`` begins the custom ids of its requests, so that its batches can be told."""

    folder: Path
    job: str
    nonce: str
    chunks: list[Chunk]

    @classmethod
    def open(cls, folder: Path, job: str) -> State:
        """The state in a folder, or a new one.

        Raises:
            LabellerError: the folder holds the state of another job, or something else.
        """
        path = folder / "state.json"
        if not path.is_file():
            return cls(folder, job, secrets.token_hex(4), [])
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            state = cls(folder, raw["job"], raw["nonce"], [Chunk(**chunk) for chunk in raw["chunks"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LabellerError(f"{path}: not the state of a job") from error
        if raw.get("version") != VERSION or state.job != job:
            raise LabellerError(
                f"{folder}: holds another job (other rows, model, rules or version): take another output, or remove it "
                "if what was paid for it is of no use any more"
            )
        return state

    def save(self) -> None:
        """Writes the state, all of it or nothing."""
        values = {
            "version": VERSION,
            "job": self.job,
            "nonce": self.nonce,
            "chunks": [asdict(chunk) for chunk in self.chunks],
        }
        with writing(self.folder / "state.json") as file:
            json.dump(values, file, indent=1)
            file.write("\n")

    def add(self, round_: int, keys: list[str]) -> None:
        """Adds a chunk that is still to be submitted."""
        self.chunks.append(Chunk(len(self.chunks), round_, keys))

    def fetched(self, chunk: Chunk) -> bool:
        """Whether a chunk's answers are here."""
        return self._answers(chunk).is_file()

    def keep(self, chunk: Chunk, replies: Iterable[Reply]) -> None:
        """Writes a chunk's answers, all of them or nothing."""
        with writing(self._answers(chunk)) as file:
            for reply in replies:
                file.write(json.dumps(asdict(reply), ensure_ascii=False) + "\n")

    def replies(self, chunk: Chunk) -> Iterator[Reply]:
        """A chunk's answers.

        Raises:
            LabellerError: the file is damaged.
        """
        path = self._answers(chunk)
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    raw = json.loads(line)
                    yield Reply(**(raw | {"usage": Usage(**raw["usage"])}))
                except (ValueError, KeyError, TypeError) as error:
                    raise LabellerError(f"{path}:{number}: not an answer; remove the file to fetch it again") from error

    def _answers(self, chunk: Chunk) -> Path:
        return self.folder / f"chunk-{chunk.number:04}.jsonl"
