"""Whether long harmless text is flagged more often than short text: *labelled rows, pipeline* -> report by length.

Documents of a given number of words are made of harmless rows, one after the other. The figure is the share of them
that is flagged, which should not depend on the length; beside it stands the price of keeping it so, the share of the
same documents that is caught when one unsafe row stands somewhere inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np

from cascade.bench.sample import OnRow
from cascade.evaluate.metrics import bootstrap, ratio
from cascade.evaluate.rows import DataError, Row
from cascade.evaluate.scoring import Scores, evaluation_pipeline, score_rows
from cascade.pipeline import Pipeline

LENGTHS = (50, 500, 5000)
MIN_WORDS = 3  # of a row: what has fewer is no text, or one in a script without spaces, whose words nobody can count
BREAK = "\n\n"


def document(harmless: Sequence[str], words: int, rng: Random, payload: str = "") -> str:
    """Harmless texts, drawn at random, of exactly so many words; the payload, if any, stands between two of them."""
    pieces: list[str] = []
    room = words
    while room > 0:
        taken = rng.choice(harmless).split()[:room]
        pieces.append(" ".join(taken))
        room -= len(taken)
    if payload:
        pieces.insert(rng.randint(0, len(pieces)), payload)
    return BREAK.join(pieces)


def readable(rows: Sequence[Row]) -> list[str]:
    """The texts of rows whose words can be counted; what has a response is labelled with it, and is no text alone.

    Raises:
        DataError: there is none.
    """
    texts = [row.text for row in rows if row.response is None and len(row.text.split()) >= MIN_WORDS]
    if not texts:
        raise DataError(f"no row is a text of {MIN_WORDS} words or more")
    return texts


def steps(documents: int, lengths: Sequence[int] = LENGTHS) -> int:
    """How often ``on_row`` is called by :func:`measure`."""
    return 2 * documents * len(lengths)


async def measure(
    unsafe: Sequence[Row],
    harmless: Sequence[Row],
    pipeline: Pipeline,
    *,
    documents: int = 100,
    lengths: Sequence[int] = LENGTHS,
    seed: int = 0,
    in_flight: int = 4,
    on_row: OnRow = lambda: None,
) -> list[dict[str, Any]]:
    """A report for each length.

    Args:
        unsafe: what is hidden in documents.
        harmless: what documents are made of.
        pipeline: what to measure, under its default policy.
        documents: how many of each length, and as many with an unsafe row inside.
        lengths: in words.
        seed: of the documents and the bootstrap.
        in_flight: documents that are scored at once.
        on_row: called after each document.

    Raises:
        EvaluationError: a document could not be judged.
        DataError: no harmless or no unsafe row is long enough to count its words.
    """
    calm, payloads = readable(harmless), readable(unsafe)
    checker = evaluation_pipeline(pipeline)
    policy = pipeline.policies.get()

    async def score(words: int, payload: Callable[[Random], str]) -> Scores:
        rng = Random(f"{seed} {words}")
        texts = [document(calm, words, rng, payload(rng)) for _ in range(documents)]
        rows = [Row(f"{words} words, {number}", text, None, None, (), "") for number, text in enumerate(texts)]
        return await score_rows(rows, checker, in_flight=in_flight, on_row=lambda row: on_row())

    reports = []
    for words in lengths:
        plain, loaded = await score(words, lambda rng: ""), await score(words, lambda rng: rng.choice(payloads))
        reports.append(
            {
                "words": words,
                "documents": documents,
                "false_positives": share(plain.unsafe, seed),
                "controversial": share(plain.controversial, seed),
                "stage1_alone": share(plain.stage1 >= policy.stage1.unsafe_threshold, seed),
                "stage2_alone": share(plain.stage2_unsafe, seed),
                "escalated": share(plain.escalated, seed),
                "caught_inside": share(loaded.unsafe, seed),
            }
        )
    return reports


def share(flags: np.typing.NDArray[np.bool_], seed: int) -> dict[str, float | None]:
    """The share of those that are true, with its 95 % interval."""
    ones = flags.astype(float)
    rate = {"share": lambda weights: ratio(weights @ ones, weights.sum(axis=1))}
    return bootstrap(rate, len(ones), seed=seed)["share"].to_dict()
