"""ToxicChat (Lin et al. 2023): prompts to an open chat demo, toxicity and jailbreaking judged of the prompt."""

from __future__ import annotations

from collections.abc import Iterator

from training.data.rows import Row
from training.data.sources.source import Record, Source, content_id


def _rows(record: Record) -> Iterator[Row]:
    text = record.text("user_input")
    toxic = int(record.number("toxicity"))
    labels = (
        f"toxicity={toxic}",
        f"jailbreaking={int(record.number('jailbreaking'))}",
        f"human_annotation={record.flag('human_annotation')}",
    )
    row_id = record.text("conv_id") or content_id("toxicchat", text)
    yield Row(row_id, "toxicchat", text, int(toxic > 0), labels, "en")


SOURCE = Source(
    "toxicchat",
    "lmsys/toxic-chat",
    {
        "train": ("data/0124/toxic-chat_annotation_train.csv",),
        "test": ("data/0124/toxic-chat_annotation_test.csv",),
    },
    "CC BY-NC 4.0",
    "non-commercial",
    _rows,
)
