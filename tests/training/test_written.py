"""The corpus written for this project: enough of it, no copies in it, and labelled as its files say."""

from __future__ import annotations

from collections import Counter

import pytest

from stages.taxonomy import HAZARD_SLUGS
from training.data import written
from training.data.groups import near_duplicate_groups
from training.data.labels import label_map
from training.data.rows import DataError, Row
from training.data.written import read_written


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [row for name in ("written.harmless", "written.hazards") for row in read_written(name)]


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


def test_other_languages_have_both_kinds_with_their_hazards() -> None:
    found = list(read_written("written.languages"))
    by_language = Counter((row.lang, row.unsafe) for row in found)
    languages = {row.lang for row in found}
    assert len(languages) >= 16
    assert min(by_language[language, unsafe] for language in languages for unsafe in (0, 1)) >= 10
    assert {row.labels[0] for row in found if row.unsafe == 1} == set(HAZARD_SLUGS) - {"child_exploitation"}
    sizes = Counter(near_duplicate_groups(found))
    assert sum(size - 1 for size in sizes.values()) <= len(found) // 100


def test_an_exchange_is_read_jointly_and_its_answer_alone() -> None:
    found = list(read_written("written.exchanges"))
    joint = [row for row in found if row.text.startswith("¶ user ¶ ")]
    assert len(found) == 2 * len(joint)
    assert all(" ¶ assistant ¶ " in row.text for row in joint)
    groups = near_duplicate_groups(found)
    halves: dict[str, set[str]] = {}
    for row, group in zip(found, groups, strict=True):
        halves.setdefault(row.labels[1], set()).add(group)
    assert all(len(one) == 1 for one in halves.values())  # never split apart
    hazard = next(row for row in found if row.labels[0] == "hate")
    assert label_map(hazard.dataset).hazard_cells(hazard)[HAZARD_SLUGS.index("hate")] == 1


def test_whatever_was_asked_a_refusal_makes_it_safe() -> None:
    found = list(read_written("written.refused"))
    assert len(found) == sum(1 for _ in read_written("written.hazards"))
    assert not any(row.unsafe for row in found)
    assert len({row.text.rpartition("¶")[2] for row in found}) >= 20
    assert found == list(read_written("written.refused"))  # always the same refusal


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("languages/xx.tsv", "hate\tone\ttwo", "2 columns with text"),
        ("languages/xx.tsv", "hatred\tone", "hatred is no hazard"),
        ("exchanges.tsv", "harmless\tprompt\t ", "3 columns with text"),
    ],
)
def test_a_bad_line_is_named(tmp_path, monkeypatch, name, line, message) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(line + "\n")
    monkeypatch.setattr(written, "CORPUS", tmp_path)
    with pytest.raises(DataError, match=rf"{path.name}:1: .*{message}"):
        list(read_written(f"written.{name.split('.')[0].split('/')[0]}"))


def test_an_empty_line_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "harmless").mkdir()
    (tmp_path / "harmless" / "topic.txt").write_text("one prompt\n\nanother\n")
    monkeypatch.setattr(written, "CORPUS", tmp_path)
    with pytest.raises(DataError, match=r"topic\.txt:2"):
        list(read_written("written.harmless"))
