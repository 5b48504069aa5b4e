"""Parquet: string columns ``result`` and ``error`` are added, each a JSON text or null. Needs the extra ``parquet``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

from cascade.scan.jsonl import dump
from cascade.scan.records import ERROR, RESULT, Fields, Outcome, Record, ScanError, ScanUsageError, record
from stages.errors import DependencyError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as missing:
    raise DependencyError("Parquet needs pyarrow: pip install 'safety-cascade[parquet]'") from missing

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Parquet:
    """A ``.parquet`` file; it is read and written in batches of rows. ``first`` as of JSON lines."""

    path: Path
    fields: Fields
    first: int = 1

    @cached_property
    def size(self) -> int:
        """Rows of the file."""
        with self._open() as file:
            return int(file.metadata.num_rows)

    def records(self) -> Iterator[Record]:
        """Reads the rows; see :class:`~cascade.scan.records.Source`."""
        with self._open() as file:
            schema = file.schema_arrow
            missing = [name for name in self.fields.required() if name not in schema.names]
            if missing:
                raise ScanUsageError(f"{self.path}: no column {missing}; the columns are {schema.names}")
            wanted = [name for name in (self.fields.id, self.fields.text, self.fields.response) if name in schema.names]
            for name in (self.fields.text, self.fields.response):
                if name in wanted and not _is_text(schema.field(name).type):
                    raise ScanUsageError(f"{self.path}: column '{name}' holds {schema.field(name).type}, not strings")
            numbers = count(self.first)
            for batch in self._batches(file, columns=wanted):
                for index in range(batch.num_rows):
                    number = next(numbers)
                    try:
                        row = {name: batch.column(name)[index].as_py() for name in wanted}
                    except UnicodeDecodeError:
                        yield Record(number, number, str(number), problem="the row holds bytes that are no UTF-8")
                        continue
                    values = (row.get(name) for name in (self.fields.id, self.fields.text, self.fields.response))
                    yield record(number, number, *values)

    def write(self, outcomes: Iterator[Outcome], out: Path) -> None:
        """Writes the rows with their outcomes. ``result`` of a bad row and ``error`` of a good one are null."""
        with self._open() as file:
            kept = [field for field in file.schema_arrow if field.name not in (RESULT, ERROR)]
            if self.fields.id not in file.schema_arrow.names:
                kept.append(pa.field(self.fields.id, pa.int64()))
            added = [pa.field(RESULT, pa.string()), pa.field(ERROR, pa.string())]
            schema = pa.schema([*kept, *added], metadata=file.schema_arrow.metadata)
            done = 0
            with pq.ParquetWriter(out, schema) as writer:
                for batch in self._batches(file):
                    of_batch = list(islice(outcomes, batch.num_rows))
                    if len(of_batch) < batch.num_rows:
                        raise ScanError("the input has more rows than when they were scored")
                    numbers = pa.array(range(self.first + done, self.first + done + batch.num_rows), pa.int64())
                    columns = [self._column(batch, field, numbers) for field in kept]
                    columns.append(pa.array([_text(outcome.result) for outcome in of_batch], pa.string()))
                    columns.append(pa.array([_text(outcome.error) for outcome in of_batch], pa.string()))
                    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
                    done += batch.num_rows
            if next(outcomes, None) is not None:
                raise ScanError("the input has fewer rows than when they were scored")

    def _column(self, batch: Any, field: Any, numbers: Any) -> Any:
        if field.name not in batch.schema.names:
            return numbers
        column = batch.column(field.name)
        fillable = _is_text(field.type) or pa.types.is_integer(field.type)
        if field.name == self.fields.id and column.null_count and fillable and not pa.types.is_dictionary(field.type):
            return pc.coalesce(column, numbers.cast(field.type))
        return column

    def _batches(self, file: Any, **options: Any) -> Iterator[Any]:
        """Batches of rows; a file may be broken anywhere."""
        batches = file.iter_batches(_ROWS_AT_ONCE, **options)
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pa.ArrowException) as error:
                raise ScanError(f"{self.path}: {error}") from error
            if batch is None:
                return
            yield batch

    def _open(self) -> Any:
        try:
            return pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise ScanError(f"{self.path}: {error}") from error
        except UnicodeDecodeError as error:
            raise ScanError(f"{self.path}: a column has a name that is no UTF-8") from error


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _text(value: object) -> str | None:
    return None if value is None else dump(value).decode()
