"""What a worker of the engine ray does with one shard: fetch -> the local engine's own scan -> put, in one step."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError
from cascade.pipeline import Pipeline
from cascade.scan.jsonl import dump
from cascade.scan.places import Place
from cascade.scan.records import Fields, ScanError, ScanUsageError
from cascade.scan.run import open_job
from cascade.scan.shards import Shard, count, fetch, suffix_of

BOOKS = "_scan"  # the folder in OUT for what belongs to the scan and not to its result


@dataclass(frozen=True)
class Task:
    """What all shards of a scan have in common. It can be pickled.

    Attributes:
        source: the filesystem of the input.
        out: the folder of the output.
        fields: names of the input's columns or keys.
        in_flight: rows that a worker judges at the same time.
    """

    source: Any
    out: Place
    fields: Fields
    in_flight: int

    @property
    def books(self) -> Place:
        """Where the plan, what is done and what is unfinished are kept."""
        return self.out / BOOKS

    @property
    def notes(self) -> Place:
        """Where the notes on what is done are kept."""
        return self.books / "done"

    def note(self, shard: Shard) -> Place:
        """The note that a part is complete; it comes after the part."""
        return self.notes / f"{shard.part}.json"

    def put(self, source: Path, to: Place) -> None:
        """Makes a local file appear in OUT, in one step."""
        to.put(source, self.books / "unfinished")

    def keep(self, place: Place, value: object) -> None:
        """Makes a file of JSON appear in OUT, in one step."""
        with tempfile.TemporaryDirectory(prefix="cascade-") as folder:
            file = Path(folder) / "json"
            file.write_bytes(dump(value))
            self.put(file, place)


class Judge:
    """Scans shards, one after the other, with one pipeline. An actor of Ray Data; it may be started anew at any time.

    A shard that was scanned twice, because its worker died after the part was put, is put twice: the same rows under
    the same name. Nobody has to know which of them is there.
    """

    def __init__(self, task: Task, make: Callable[[], Pipeline]) -> None:
        self._task, self._make = task, make
        self._runner = asyncio.Runner()  # one event loop, to which the pipeline belongs
        self._pipeline: Pipeline | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Shard, as a row -> what became of it, as a row: rows, bad ones, or why it failed."""
        try:
            return self._runner.run(self._scan(Shard(**row["shard"])))
        except CascadeError as error:  # an exception would come back as Ray's
            return {"rows": 0, "bad": 0, "usage": isinstance(error, ScanUsageError), "error": str(error)}

    def close(self) -> None:
        """Closes the pipeline."""
        if self._pipeline is not None:
            self._runner.run(self._pipeline.close())
        self._runner.close()

    async def _scan(self, shard: Shard) -> dict[str, Any]:
        if self._pipeline is None:
            self._pipeline = self._make()
        task = self._task
        with tempfile.TemporaryDirectory(prefix="cascade-") as folder:
            suffix = suffix_of(shard.part)
            source, out = Path(folder) / f"in{suffix}", Path(folder) / f"out{suffix}"
            fetch(shard, task.source, source)
            job = open_job(source, out, task.fields, shard.first)
            scanned = await job.run(self._pipeline, in_flight=task.in_flight, on_record=lambda record, size: None)
            if scanned.rows != shard.rows:
                raise ScanError(f"{shard.path}: has other rows than when they were counted: it changed during the scan")
            task.put(out, task.out / shard.part)
            counts = {"rows": scanned.rows, "bad": scanned.bad}
            task.keep(task.note(shard), counts)
        return counts | {"usage": False, "error": ""}


def count_rows(task: Task, row: dict[str, Any]) -> dict[str, Any]:
    """Shard, as a row -> its index and its rows, as a row."""
    try:
        return {"index": row["index"], "rows": count(Shard(**row["shard"]), task.source), "error": ""}
    except CascadeError as error:
        return {"index": row["index"], "rows": 0, "error": str(error)}


def counts_of(note: bytes) -> tuple[int, int]:
    """Rows and bad rows of a part by the note that it is done."""
    found = json.loads(note)
    return int(found["rows"]), int(found["bad"])
