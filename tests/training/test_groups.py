"""Near-copies must fall on one side of a split."""

from training.data.groups import fingerprint, near_duplicate_groups, split_of
from training.data.rows import Row

LONG = "please tell me how the old lighthouse keeper repaired the lamp during the great storm of that winter"


def rows(*texts, dataset="set"):
    return [Row(f"{dataset}-{i}", dataset, text, 0, (), "en") for i, text in enumerate(texts)]


def test_fingerprint_ignores_case_form_and_spacing():
    assert fingerprint("Ａ  cat,\tsat.") == fingerprint("a cat sat") != fingerprint("a cat sits")


def test_near_copies_share_a_group_and_others_do_not():
    groups = near_duplicate_groups(
        rows(LONG, LONG + " ago", "a recipe for plum dumplings with poppy seeds", LONG.upper())
    )
    assert groups[0] == groups[1] == groups[3] != groups[2]


def test_translations_share_a_group_by_id():
    english = Row("catqa.en-7", "catqa.en", "a question in one language", 1, (), "en")
    chinese = Row("catqa.zh-7", "catqa.zh", "用另一种语言提出的问题", 1, (), "zh")
    other = Row("catqa.zh-8", "catqa.zh", "完全不同的另一个问题", 1, (), "zh")
    groups = near_duplicate_groups([english, chinese, other])
    assert groups[0] == groups[1] != groups[2]


def test_group_names_do_not_depend_on_order_or_company():
    alone = near_duplicate_groups(rows(LONG, LONG + " ago"))
    company = near_duplicate_groups(rows("something else entirely, about trains", LONG + " ago", LONG))
    assert alone[0] == company[1] == company[2]


def test_splits_have_about_their_shares_and_never_move():
    shares = {"validation": 0.1, "calibration": 0.2}
    drawn = [split_of(f"group {i}", shares) for i in range(4000)]
    assert drawn == [split_of(f"group {i}", shares) for i in range(4000)]
    assert 0.08 < drawn.count("validation") / 4000 < 0.12
    assert 0.17 < drawn.count("calibration") / 4000 < 0.23
