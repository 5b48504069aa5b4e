"""Unknown is not negative: what the label maps say, cell by cell."""

import math

from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS, TINYSAFE_CATEGORIES
from training.data.labels import LABEL_MAPS, label_map
from training.data.rows import Row


def row(dataset, unsafe, *labels):
    return Row("1", dataset, "a text", unsafe, labels, "en")


def hazards(a_row):
    return dict(zip(HAZARD_SLUGS, label_map(a_row.dataset).hazard_cells(a_row), strict=True))


def test_a_set_with_all_hazards_says_no_to_the_others():
    cells = hazards(row("jailjudge_id", 1, "S9", "Q1"))
    assert cells["indiscriminate_weapons"] == 1
    assert sum(cells.values()) == 1


def test_a_label_that_a_set_does_not_have_is_unknown():
    cells = hazards(row("aegis2_unsafe_900", 1, "Violence"))
    assert cells["violent_crimes"] == 1
    assert cells["hate"] == 0
    assert math.isnan(cells["defamation"])
    assert math.isnan(cells["elections"])


def test_what_a_label_leaves_open_is_unknown():
    cells = hazards(row("aegis2_unsafe_900", 1, "Guns and Illegal Weapons"))
    assert cells["nonviolent_crimes"] == 1
    assert math.isnan(cells["violent_crimes"])


def test_an_unsafe_row_without_a_known_label_says_nothing():
    assert all(math.isnan(value) for value in hazards(row("aegis2_unsafe_900", 1, "Other")).values())
    assert all(math.isnan(value) for value in hazards(row("advbench.behaviors", 1)).values())


def test_a_safe_prompt_is_free_of_every_hazard_but_a_safe_comment_only_of_its_own():
    assert set(hazards(row("toxicchat.train", 0)).values()) == {0.0}
    cells = hazards(row("stormfront", 0, "noHate"))
    assert cells["hate"] == 0
    assert math.isnan(cells["privacy"])


def test_categories():
    a_row = row("civilcomments_toxicspans_raw", 1)
    cells = dict(zip(TINYSAFE_CATEGORIES, label_map(a_row.dataset).category_cells(a_row), strict=True))
    assert cells["harassment"] == 1
    assert math.isnan(cells["sexual"])


def test_every_map_speaks_of_known_labels_only():
    for name, each in LABEL_MAPS.items():
        for meaning in each._scheme():
            assert set(meaning.hazards) | set(meaning.open) <= set(HAZARD_INDEX), name
            assert set(meaning.categories) <= set(TINYSAFE_CATEGORIES), name
