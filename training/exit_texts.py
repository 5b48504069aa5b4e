"""The texts that an early exit is fitted on: *splits* -> rows of all sources, some of them joined, some disguised.

An exit must not be a way around the network. So beside the rows as they are it sees unsafe ones that stand among
harmless ones, and letters that were changed: what the whole network says of these is what it has to learn.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.data.mix import Example, Splits
from training.draws import effective_shares
from training.recipe import Data

ROWS_A_SOURCE, JOINED, DISGUISED = 5000, 6000, 5000
JOINED_SHARE, DISGUISED_SHARE = 0.15, 0.12  # of all that counts, beside the 1.0 of the rows as they are
LONGEST = 600  # characters of a row that is joined with others
UNSAFE_INSIDE = 0.6  # of what is joined
LEET = str.maketrans("aeiost", "431057")


@dataclass(frozen=True)
class Weighted:
    """A text and how much it counts."""

    text: str
    weight: float


def training_texts(splits: Splits, data: Data, seed: int) -> list[Weighted]:
    """What the head is fitted on, in random order."""
    rng = random.Random(seed)
    shares = effective_shares(splits.train, data)
    rows = {source: _some(examples, ROWS_A_SOURCE, rng) for source, examples in splits.train.items()}
    found = [weighted for source, examples in rows.items() for weighted in _evenly(_texts(examples), shares[source])]
    everything = [example for examples in rows.values() for example in examples]
    found += _evenly(_joined(everything, JOINED, rng), JOINED_SHARE)
    found += _evenly([disguised(e.text, rng) for e in _some(everything, DISGUISED, rng)], DISGUISED_SHARE)
    rng.shuffle(found)
    return found


def held_out_texts(examples: Sequence[Example], shares: Mapping[str, float]) -> list[Weighted]:
    """Rows that nothing is fitted on, every source by its share."""
    by_source: dict[str, list[str]] = {}
    for example in examples:
        by_source.setdefault(example.source, []).append(example.text)
    return [weighted for source, texts in by_source.items() for weighted in _evenly(texts, shares[source])]


def disguised(text: str, rng: random.Random) -> str:
    """The text in other letters: all large, all small, some large, digits for letters, or some left out."""
    ways = (
        str.upper,
        str.lower,
        lambda whole: "".join(c.upper() if rng.random() < 0.4 else c for c in whole),
        lambda whole: whole.translate(LEET),
        lambda whole: "".join(c for c in whole if rng.random() > 0.05),
    )
    return rng.choice(ways)(text)


def _some(examples: Sequence[Example], most: int, rng: random.Random) -> list[Example]:
    return list(examples) if len(examples) <= most else rng.sample(list(examples), most)


def _texts(examples: Sequence[Example]) -> list[str]:
    return [example.text for example in examples]


def _evenly(texts: Sequence[str], share: float) -> list[Weighted]:
    return [Weighted(text, share / len(texts)) for text in texts]


def _joined(examples: Sequence[Example], count: int, rng: random.Random) -> list[str]:
    """One to three harmless rows, most of them with an unsafe one at some place."""
    harmless = [e.text for e in examples if e.unsafe == 0 and len(e.text) < LONGEST]
    unsafe = [e.text for e in examples if e.unsafe == 1 and len(e.text) < LONGEST]
    if not harmless or not unsafe:
        return []
    found = []
    for _ in range(count):
        pieces = rng.choices(harmless, k=rng.randint(1, 3))
        if rng.random() < UNSAFE_INSIDE:
            pieces.insert(rng.randint(0, len(pieces)), rng.choice(unsafe))
        found.append(rng.choice((" ", "\n", "\n\n")).join(pieces))
    return found
