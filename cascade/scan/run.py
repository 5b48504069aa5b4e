"""A scan from start to end: IN -> records -> *pipeline* -> OUT.part, in the order of the rows -> OUT, in one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from cascade.bulk import Checker, check_patiently, in_order
from cascade.content import check_request
from cascade.errors import InvalidRequestError, LimitExceededError
from cascade.jsonform import to_dict
from cascade.pipeline import Pipeline
from cascade.policy import fingerprint
from cascade.scan.csvfile import Csv
from cascade.scan.jsonl import JsonLines
from cascade.scan.part import Part
from cascade.scan.records import Fields, Outcome, Record, ScanUsageError, Source
from stages.manifest import file_hash

FORMATS = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".csv": "csv", ".parquet": "parquet"}

# What one row can be blamed for, with the name of its gRPC code; every other error ends the scan.
ROW_ERRORS: dict[type[Exception], str] = {
    InvalidRequestError: "INVALID_ARGUMENT",
    LimitExceededError: "RESOURCE_EXHAUSTED",
}


@dataclass(frozen=True)
class Scanned:
    """What a scan did: all rows of OUT, those with an error, and those taken over from an earlier run's part file."""

    rows: int
    bad: int
    resumed: int


@dataclass(frozen=True)
class Job:
    """A scan of one file into another that is known to be possible; made by :func:`open_job`."""

    path: Path
    out: Path
    fields: Fields
    source: Source

    async def run(self, pipeline: Pipeline, *, in_flight: int, on_record: Callable[[Record, int], None]) -> Scanned:
        """Scores what OUT.part does not have yet, then writes OUT.

        Args:
            pipeline: what judges, under its default policy.
            in_flight: rows that are judged at the same time.
            on_record: called after each row with its record and the size of the source.

        Raises:
            ScanError: the part file belongs to another scan, or the input changed or cannot be read.
            CascadeError: the pipeline failed for another reason than a row; OUT.part keeps what was scored.
        """
        size = self.source.size
        with Part(self.out.with_name(f"{self.out.name}.part"), self._identity(pipeline)) as part:
            resumed = part.done

            def done(record: Record, outcome: Outcome) -> None:
                part.append(outcome)
                on_record(record, size)

            rest = islice(self.source.records(), part.done, None)
            await in_order(rest, partial(_judge, pipeline), done, in_flight=in_flight, characters=_characters)
            self._write(part)
            return Scanned(part.done, part.bad, resumed)

    def _identity(self, pipeline: Pipeline) -> dict[str, str]:
        return {"input": file_hash(self.path)} | identity(pipeline, self.fields)

    def _write(self, part: Part) -> None:
        """Writes OUT under another name, gives it its own in one step, and removes the part file."""
        unfinished = self.out.with_name(f".unfinished.{self.out.name}")
        try:
            self.source.write(part.outcomes(), unfinished)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(self.out)
        finally:
            unfinished.unlink(missing_ok=True)
        part.path.unlink()


def identity(pipeline: Pipeline, fields: Fields) -> dict[str, str]:
    """What the outcomes depend on beside the input: what was begun with other values is of another scan."""
    models = {f"model of {name}": fingerprint(b.stage.info.files) for name, b in pipeline.stages.items()}
    named = {f"{name} field": value for name, value in asdict(fields).items()}
    return {"policy": pipeline.policies.get().revision} | models | named


def open_job(path: Path, out: Path, fields: Fields, first: int = 1) -> Job:
    """Looks at the files, before any model is loaded.

    Args:
        path: the input.
        out: the output.
        fields: names of the input's columns or keys.
        first: number of the input's first row, if it is a piece of another file.

    Raises:
        ScanUsageError: the formats are unknown or differ, both files are the same, or a field is not there.
        ScanError: the input cannot be read.
        DependencyError: the format needs an extra that is not installed.
    """
    if _format(path) != _format(out):
        raise ScanUsageError(f"{out}: must be of the same format as {path.name}")
    if not out.parent.is_dir():
        raise ScanUsageError(f"{out.parent}: no such folder")
    if out.is_dir() or (out.exists() and out.samefile(path)):
        raise ScanUsageError(f"{out}: is a folder, or the input itself")
    source = _open(path, fields, first)
    next(source.records(), None)  # the first record comes after the fields were looked for
    return Job(path, out, fields, source)


def _open(path: Path, fields: Fields, first: int) -> Source:
    kind = _format(path)
    if kind == "parquet":
        from cascade.scan.parquet import Parquet

        return Parquet(path, fields, first)
    return Csv(path, fields) if kind == "csv" else JsonLines(path, fields, first)


def _format(path: Path) -> str:
    for suffix, kind in FORMATS.items():
        if path.name.endswith(suffix):
            return kind
    raise ScanUsageError(f"{path}: the format must be one of {', '.join(FORMATS)}")


def _characters(record: Record) -> int:
    return len(record.text or "") + len(record.response or "")


async def _judge(checker: Checker, record: Record) -> Outcome:
    if record.text is None:
        return Outcome(None, {"code": ROW_ERRORS[InvalidRequestError], "message": record.problem or "no text"})
    try:
        request = check_request(record.text, record.response, request_id=record.request_id())
        return Outcome(to_dict(await check_patiently(checker, request)))
    except tuple(ROW_ERRORS) as error:
        code = next(code for kind, code in ROW_ERRORS.items() if isinstance(error, kind))
        return Outcome(None, {"code": code, "message": str(error)})
