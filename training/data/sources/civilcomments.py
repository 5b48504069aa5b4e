"""Civil Comments (Borkan et al. 2019), also as Jigsaw's "unintended bias": news comments with shares of raters.

A share is that of the raters who saw the attribute. As in the publications, 0.5 and more counts as toxic; the label
``toxicity=0.6`` keeps the share in tenths, so that a recipe can ask for clear or for borderline rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from training.data.rows import Row
from training.data.sources.source import Record, Source, content_id

SUBTYPES = ("severe_toxicity", "obscene", "threat", "insult", "identity_attack", "sexual_explicit")


def _rows(record: Record) -> Iterator[Row]:
    text = record.text("text", "comment_text")
    toxicity = record.number("toxicity", "target")
    found = tuple(name for name in SUBTYPES if record.number(name) >= 0.5)
    row_id = str(record.values["id"]) if record.has("id") else content_id("civilcomments", text)
    # Cut, not rounded: 0.46 must not read as a tenth that counts as toxic.
    tenths = f"toxicity={int(10 * toxicity + 1e-6) / 10:.1f}"
    yield Row(row_id, "civilcomments", text, int(toxicity >= 0.5), (tenths, *found), "en")


SOURCE = Source(
    "civilcomments",
    "google/civil_comments",
    {split: (f"data/{split}-*.parquet",) for split in ("train", "validation", "test")},
    "CC0-1.0",
    "permissive",
    _rows,
)
