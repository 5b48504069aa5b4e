"""The corpus written for this project: enough of it, no copies in it, and labelled as its files say."""

from __future__ import annotations

from collections import Counter

import pytest

from stages.taxonomy import HAZARD_SLUGS
from training.data import written
from training.data.groups import near_duplicate_groups
from training.data.labels import label_map
from training.data.rows import DataError, Row
from training.data.written import WRITTEN, read_written


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [row for name in WRITTEN for row in read_written(name)]


def test_there_is_enough_of_it(rows: list[Row]) -> None:
    assert sum(row.unsafe == 0 for row in rows) >= 3000
    hazards = Counter(row.labels[0] for row in rows if row.unsafe == 1)
    assert set(hazards) == set(HAZARD_SLUGS) - {"child_exploitation"}
    assert min(hazards.values()) >= 80


def test_no_prompt_is_a_near_copy_of_another(rows: list[Row]) -> None:
    sizes = Counter(near_duplicate_groups(rows))
    assert sum(size - 1 for size in sizes.values()) <= len(rows) // 1000


def test_ids_are_unique_and_lines_are_prompts(rows: list[Row]) -> None:
    assert len({row.id for row in rows}) == len(rows)
    assert all(2 < len(row.text.split()) <= 80 for row in rows)


def test_labels_are_the_file_names(rows: list[Row]) -> None:
    cells = {row.labels[0]: label_map(row.dataset).hazard_cells(row) for row in rows if row.unsafe == 1}
    for slug, found in cells.items():
        assert found == [float(known == slug) for known in HAZARD_SLUGS]
    harmless = next(row for row in rows if row.unsafe == 0)
    assert label_map(harmless.dataset).hazard_cells(harmless) == [0.0] * 14


def test_an_empty_line_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "harmless").mkdir()
    (tmp_path / "harmless" / "topic.txt").write_text("one prompt\n\nanother\n")
    monkeypatch.setattr(written, "CORPUS", tmp_path)
    with pytest.raises(DataError, match=r"topic\.txt:2"):
        list(read_written("written.harmless"))
