"""Turns a recipe's sources into examples: a training draw, and validation and calibration splits cut out by group."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.data.groups import PAIR, near_duplicate_groups, split_of
from training.data.labels import UNKNOWN, label_map
from training.data.rows import DataError, Row, find_set, licence_classes, read_set
from training.data.verdicts import JUDGED, judged, load_finals
from training.data.written import LICENCE, WRITTEN, read_written
from training.recipe import Data, Source
from training.targets import cells


@dataclass(frozen=True, slots=True)
class Example:
    """One text with its targets: ``unsafe`` and each label 1, 0 or NaN (unknown).

    ``teacher`` is the logit of unsafe that teachers give it, NaN where none was asked.
    """

    text: str
    source: str
    dataset: str
    lang: str
    unsafe: float
    labels: tuple[float, ...]
    teacher: float = UNKNOWN


@dataclass(frozen=True)
class Splits:
    """The three parts; ``train`` by source, the others flat. ``left_out`` by their licences are sets like ``sets``."""

    train: dict[str, list[Example]]
    validation: list[Example]
    calibration: list[Example]
    sets: dict[str, tuple[str, str]]  # set -> (licence, licence class)
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)


def build_splits(folder: Path, data: Data, system: str) -> Splits:
    """Reads, labels, groups and splits all sources of a recipe.

    Raises:
        DataError: a set is missing, or nothing is left after the licence filter.
    """
    licences = licence_classes(folder)
    finals = load_finals() if data.verdicts else {}
    rows: list[Row] = []
    sources: list[Source] = []
    used: dict[str, tuple[str, str]] = {}
    left_out: dict[str, tuple[str, str]] = {}
    for source in data.sources:
        for name in source.sets:
            licence = LICENCE if name in WRITTEN else licences.get(name, ("none stated", "unknown"))
            if data.licences == "permissive" and licence[1] != "permissive":
                left_out[name] = licence
                continue
            used[name] = licence
            found = read_written(name) if name in WRITTEN else read_set(find_set(folder, name))
            wanted = [judged(row, finals) for row in found if _wanted(row, source)]
            kept = [row for row in wanted if row is not None]
            rows += kept
            sources += [source] * len(kept)
    groups = near_duplicate_groups(rows)
    splits = Splits({}, [], [], used, left_out)
    shares = {"validation": data.validation, "calibration": data.calibration}
    conflicts = _conflicting(rows, sources, groups)
    for row, source, group in zip(rows, sources, groups, strict=True):
        if group in conflicts:
            continue
        example = _example(row, source, system)
        split = split_of(group, shares)
        if split == "train":
            splits.train.setdefault(source.name, []).append(example)
        else:
            (splits.validation if split == "validation" else splits.calibration).append(example)
    splits.validation[:] = _capped(splits.validation, data.validation_cap)
    splits.calibration[:] = _capped(splits.calibration, data.calibration_cap)
    if not splits.train:
        raise DataError(f"{folder}: nothing to train on with licences = {data.licences!r}")
    return splits


def _capped(examples: list[Example], cap: int) -> list[Example]:
    """At most ``cap`` examples of each source, drawn evenly over it."""
    by_source: dict[str, list[Example]] = {}
    for example in examples:
        by_source.setdefault(example.source, []).append(example)
    return [e for members in by_source.values() for e in members[:: max(1, -(-len(members) // cap))]]


def _wanted(row: Row, source: Source) -> bool:
    if not row.text.strip() or row.response is not None:  # the label of a pair is never that of its prompt
        return False
    return not source.only_labels or bool(set(row.labels) & set(source.only_labels))


def _conflicting(rows: Sequence[Row], sources: Sequence[Source], groups: Sequence[str]) -> set[str]:
    """Small groups (copies, not families) that disagree on the binary label, other than on purpose: minimal pairs."""
    verdicts: dict[str, set[int]] = {}
    sizes = Counter(groups)
    for row, source, group in zip(rows, sources, groups, strict=True):
        paired = any(label.startswith(PAIR) for label in row.labels)
        if source.binary and row.unsafe is not None and sizes[group] <= 4 and not paired:
            verdicts.setdefault(group, set()).add(row.unsafe)
    return {group for group, seen in verdicts.items() if len(seen) > 1}


def _example(row: Row, source: Source, system: str) -> Example:
    unsafe = float(row.unsafe) if source.binary and row.unsafe is not None else UNKNOWN
    meaning = JUDGED if row.judged else label_map(row.dataset)
    return Example(row.text, source.name, row.dataset, row.lang, unsafe, tuple(cells(system, row, meaning)))


def draw(train: dict[str, list[Example]], sources: Sequence[Source], count: int, seed: int) -> Iterator[Example]:
    """Draws with replacement: a source by its share, then safe or unsafe by its unsafe share, then a row.

    The same seed draws the same texts, so that a resumed run goes on where it was.
    """
    rng = random.Random(seed)
    present = [source for source in sources if train.get(source.name)]
    pools = {
        source.name: (
            [example for example in train[source.name] if example.unsafe == 1],
            [example for example in train[source.name] if example.unsafe != 1],
        )
        for source in present
    }
    weights = [source.share for source in present]
    for source in rng.choices(present, weights, k=count):
        unsafe, rest = pools[source.name]
        if source.unsafe_share is None or not unsafe or not rest:
            yield rng.choice(train[source.name])
        else:
            yield rng.choice(unsafe if rng.random() < source.unsafe_share else rest)
