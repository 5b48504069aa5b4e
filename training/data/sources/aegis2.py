"""AEGIS 2.0 (Ghosh et al. 2025): prompts and answers, one comma string of violated categories for both.

Prompts of the Suicide Detection set are withheld: they read ``REDACTED`` and are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

from training.data.rows import Row
from training.data.sources.source import Record, Source, content_id

_REDACTED = "REDACTED"
_HUB = "nvidia/Aegis-AI-Content-Safety-Dataset-2.0"
_FILES = {split: (f"{split}.json",) for split in ("train", "validation", "test")}


def _withheld(record: Record) -> bool:
    return record.has("reconstruction_id_if_redacted") or record.text("prompt").strip() == _REDACTED


def _labels(record: Record, unsafe: int | None) -> tuple[str, ...]:
    """The categories; none of a part that is safe, since they are then those of the other part."""
    if not unsafe:
        return ()
    return tuple(name.strip() for name in record.text("violated_categories").split(",") if name.strip())


def _prompts(record: Record) -> Iterator[Row]:
    if not _withheld(record):
        text = record.text("prompt")
        unsafe = record.verdict("prompt_label", "unsafe", "safe")
        row_id = record.text("id") or content_id("aegis2", text)
        yield Row(row_id, "aegis2", text, unsafe, _labels(record, unsafe), "en")


def _exchanges(record: Record) -> Iterator[Row]:
    text, response = record.text("prompt"), record.text("response")
    unsafe = record.verdict("response_label", "unsafe", "safe")
    if response and unsafe is not None and not _withheld(record):
        row_id = content_id("aegis2", text, response)
        yield Row(row_id, "aegis2_exchanges", text, unsafe, _labels(record, unsafe), "en", response)


PROMPTS = Source("aegis2", _HUB, _FILES, "CC BY 4.0", "permissive", _prompts)
EXCHANGES = Source("aegis2_exchanges", _HUB, _FILES, "CC BY 4.0", "permissive", _exchanges)
