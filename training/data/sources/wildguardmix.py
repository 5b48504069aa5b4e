"""WildGuardMix (Han et al. 2024): prompts, plain and adversarial, and answers to them, each judged for itself."""

from __future__ import annotations

from collections.abc import Iterator

from training.data.rows import Row
from training.data.sources.source import Record, Source, content_id

_FILES = {"train": ("train/wildguard_train.parquet",), "test": ("test/wildguard_test.parquet",)}


def _prompts(record: Record) -> Iterator[Row]:
    text, subcategory = record.text("prompt"), record.text("subcategory")
    unsafe = record.verdict("prompt_harm_label", "harmful", "unharmful")
    labels: tuple[str, ...] = (subcategory,) if subcategory else ()
    if record.flag("adversarial"):
        labels += ("adversarial",)
    yield Row(content_id("wildguardmix", text), "wildguardmix", text, unsafe, labels, "en")


def _exchanges(record: Record) -> Iterator[Row]:
    text, response = record.text("prompt"), record.text("response")
    unsafe = record.verdict("response_harm_label", "harmful", "unharmful")
    if response and unsafe is not None:
        # The subcategory is the prompt's: of what an answer does it says nothing.
        refusal = record.text("response_refusal_label")
        labels = (refusal,) if refusal else ()
        row_id = content_id("wildguardmix", text, response)
        yield Row(row_id, "wildguardmix_exchanges", text, unsafe, labels, "en", response)


PROMPTS = Source("wildguardmix", "allenai/wildguardmix", _FILES, "ODC-BY", "permissive", _prompts)
EXCHANGES = Source("wildguardmix_exchanges", "allenai/wildguardmix", _FILES, "ODC-BY", "permissive", _exchanges)
