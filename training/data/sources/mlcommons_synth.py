"""The synthetic set of the semantic router: prompts that a model wrote for the hazards that AEGIS 2.0 has few of.

Every row was asked for as unsafe and none was judged afterwards: take it as silver.
"""

from __future__ import annotations

from collections.abc import Iterator

from training.data.rows import Row
from training.data.sources.source import Record, Source, content_id


def _rows(record: Record) -> Iterator[Row]:
    text = record.text("text")
    unsafe = int(record.number("label") > 0) if record.has("label") else 1
    yield Row(content_id("mlcommons_synth", text), "mlcommons_synth", text, unsafe, (record.text("category"),), "en")


SOURCE = Source(
    "mlcommons_synth",
    "llm-semantic-router/mlcommons-ai-safety-synth",
    {"train": ("*.jsonl", "*.json", "data/train-*.parquet")},
    "Apache-2.0",
    "permissive",
    _rows,
)
