"""CSV with a header, as RFC 4180 has it: columns ``result`` and ``error`` are added, each a JSON text."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cascade.scan.jsonl import dump
from cascade.scan.records import ERROR, RESULT, Fields, Outcome, Record, ScanError, ScanUsageError, paired, record


@dataclass(frozen=True)
class Csv:
    """A ``.csv`` file, comma-separated, UTF-8 with or without a byte-order mark."""

    path: Path
    fields: Fields

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def records(self) -> Iterator[Record]:
        """Reads the rows; see :class:`~cascade.scan.records.Source`."""
        rows = self._rows()
        header, _ = next(rows, ([], 0))
        missing = [name for name in self.fields.required() if name not in header]
        if missing:
            raise ScanUsageError(f"{self.path}: no column {missing}; the columns are {header}")
        for number, (row, position) in enumerate(rows, 1):
            if len(row) > len(header):
                problem = f"the row has {len(row)} values for {len(header)} columns"
                yield Record(number, position, str(number), problem=problem)
                continue
            values = dict(zip(header, row, strict=False))
            # An empty cell is how CSV says that there is no response.
            response = values.get(self.fields.response) or None
            yield record(number, position, values.get(self.fields.id), values.get(self.fields.text), response)

    def write(self, outcomes: Iterator[Outcome], out: Path) -> None:
        """Writes the rows with their outcomes: ``result`` of a bad row is ``null``, ``error`` of a good one empty."""
        rows = (row for row, _ in self._rows())
        header = next(rows, [])
        kept = [index for index, name in enumerate(header) if name not in (RESULT, ERROR)]
        id_at = header.index(self.fields.id) if self.fields.id in header else None
        with out.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            added = [RESULT, ERROR] if id_at is not None else [self.fields.id, RESULT, ERROR]
            writer.writerow([*(header[index] for index in kept), *added])
            for number, (row, outcome) in enumerate(paired(rows, outcomes), 1):
                cells = row + [""] * (len(header) - len(row))
                if id_at is not None:
                    cells[id_at] = cells[id_at] or str(number)
                values = [cells[index] for index in kept] + ([str(number)] if id_at is None else [])
                error = dump(outcome.error).decode() if outcome.error else ""
                writer.writerow([*values, dump(outcome.result).decode(), error])

    def _rows(self) -> Iterator[tuple[list[str], int]]:
        """Rows that are not blank, each with the position behind it (ahead by what the reader has buffered)."""
        csv.field_size_limit(sys.maxsize)  # The pipeline has its own limit, which spoils one row instead of the file.
        try:
            with self.path.open("rb") as raw:
                # Bytes that are no UTF-8 become lone surrogates, which spoil their row and are written back unchanged.
                text = io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="")
                for row in csv.reader(text):
                    if row:
                        yield row, raw.tell()
        except (OSError, csv.Error) as error:
            raise ScanError(f"{self.path}: {error}") from error
