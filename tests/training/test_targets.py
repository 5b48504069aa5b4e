"""A row means the same to every system, in its own labels: what is unknown stays unknown."""

from __future__ import annotations

import math

from stages.taxonomy import HAZARD_INDEX
from training.data.labels import label_map
from training.data.rows import Row
from training.targets import LABELS, cells


def named(system: str, dataset: str, unsafe: int | None, *labels: str) -> dict[str, float]:
    row = Row("1", dataset, "a text", unsafe, labels, "en")
    found = cells(system, row, label_map(dataset))
    assert len(found) == len(LABELS[system])
    return dict(zip(LABELS[system], found, strict=True))


def test_duoguard_knows_hazards_and_jailbreaks() -> None:
    assert named("duoguard", "jailjudge_id", 1, "S9")["indiscriminate_weapons"] == 1
    assert math.isnan(named("duoguard", "jailjudge_id", 1, "S9")["jailbreak"])
    assert named("duoguard", "jailbreak_classification.train", 1, "jailbreak")["jailbreak"] == 1
    assert set(named("duoguard", "jailbreak_classification.train", 0, "benign").values()) == {0.0}


def test_legacy_classes_take_related_hazards_and_misinformation() -> None:
    assert named("legacy9", "jailjudge_id", 1, "S4")["sex_crimes"] == 1
    assert named("legacy9", "directharm4", 1, "disinfo")["misinformation"] == 1
    assert math.isnan(named("legacy9", "directharm4", 1, "drug")["misinformation"])


def test_constitutional_rows_have_no_labels_and_hazard_rows_are_as_before() -> None:
    assert named("constitutional", "jailjudge_id", 1, "S9") == {}
    hazards = named("hazard", "jailjudge_id", 1, "S9")
    assert [slug for slug, cell in hazards.items() if cell == 1] == ["indiscriminate_weapons"]
    assert list(hazards) == list(HAZARD_INDEX)
