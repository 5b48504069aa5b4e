"""Parts of a set that may fare differently: by language, by script and by length, each with its shares and intervals.

The language is the one that the row itself names: telling it from a short text is a guess, wrong most often on the
mixed and disguised texts that matter here. The script can be seen, and is what the route goes by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cascade.evaluate.metrics import Bools, bootstrap, decision_metrics
from cascade.evaluate.rows import Row
from cascade.evaluate.scoring import Scores
from cascade.text.scripts import script

LENGTHS = ((1, 16), (17, 64), (65, 256), (257, None))  # tokens of stage 1
LEAST = 10  # rows: of fewer nothing is said
_LOOKED_AT = 2000  # code points of a text that tell its script


def report_slices(rows: Sequence[Row], scores: Scores, *, seed: int, resamples: int) -> list[dict[str, Any]]:
    """What the cascade does with each part that has enough rows. Only rows with a binary label count for metrics."""
    known, positive = np.array([row.unsafe is not None for row in rows]), np.array([row.unsafe is True for row in rows])
    found = []
    for kind, name, inside in _parts(rows, scores):
        labelled = inside & known
        metrics = decision_metrics(positive[labelled], scores.unsafe[labelled])
        estimates = bootstrap(metrics, int(labelled.sum()), seed=seed, resamples=resamples)
        found.append(
            {
                "kind": kind,
                "name": name,
                "rows": int(inside.sum()),
                "labelled": int(labelled.sum()),
                "positives": int((positive & labelled).sum()),
                "escalation_rate": float(scores.escalated[inside].mean()),
                **{metric: estimate.to_dict() for metric, estimate in estimates.items()},
            }
        )
    return found


def _parts(rows: Sequence[Row], scores: Scores) -> Iterator[tuple[str, str, Bools]]:
    for kind, names in (
        ("language", np.array([row.lang or "not said" for row in rows])),
        ("script", np.array([main_script(row.text) for row in rows])),
    ):
        for name, count in Counter(names.tolist()).most_common():
            if count >= LEAST:
                yield kind, name, names == name
    for least, most in LENGTHS:
        inside = (scores.tokens >= least) & (scores.tokens <= (np.inf if most is None else most))
        if inside.sum() >= LEAST:
            yield "tokens", f"{least}–{most}" if most else f"from {least}", inside


def main_script(text: str) -> str:
    """The script of most of a text's letters, "none" where it has no letters."""
    found = Counter(name for character in text[:_LOOKED_AT] if (name := script(character)))
    return found.most_common(1)[0][0] if found else "none"
