"""BeaverTails (Ji et al. 2023): questions with answers. The label is the pair's, so each row has a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from training.data.rows import DataError, Row
from training.data.sources.source import Record, Source, content_id


def _rows(record: Record) -> Iterator[Row]:
    text, response = record.text("prompt"), record.text("response")
    categories = record.values.get("category")
    if not isinstance(categories, Mapping):
        raise DataError(f"{record.where}: 'category' must be an object of flags")
    labels = tuple(sorted(name for name, held in categories.items() if held))
    row_id = content_id("beavertails", text, response)
    yield Row(row_id, "beavertails", text, int(not record.flag("is_safe")), labels, "en", response)


SOURCE = Source(
    "beavertails",
    "PKU-Alignment/BeaverTails",
    {"train": ("round0/330k/train.jsonl.*",), "test": ("round0/330k/test.jsonl.*",)},
    "CC BY-NC 4.0",
    "non-commercial",
    _rows,
)
