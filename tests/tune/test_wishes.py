import pytest

from cascade.tune.wishes import Wish, WishError, parse_wishes


def test_wishes_for_all_texts_and_for_hazards() -> None:
    wishes = parse_wishes(0.15, ["0.02", "privacy=0.1"], ["hate=0.05"])
    assert wishes == (
        Wish("escalation", 0.15),
        Wish("missed_unsafe", 0.02),
        Wish("missed_unsafe", 0.1, "privacy"),
        Wish("false_positive", 0.05, "hate"),
    )
    assert [wish.name for wish in wishes] == ["escalation", "missed_unsafe", "missed_unsafe.privacy",
                                              "false_positive.hate"]  # fmt: skip
    assert [wish.of for wish in wishes] == ["texts", "unsafe texts", "texts with privacy", "harmless texts"]


@pytest.mark.parametrize(
    ("escalation", "missed", "false_positive", "message"),
    [
        (None, [], [], "nothing to promise"),
        (1.0, [], [], "between 0 and 1"),
        (0.0, [], [], "between 0 and 1"),
        (None, ["two"], [], "--max-missed-unsafe two: no number"),
        (None, ["nan"], [], "between 0 and 1"),
        (None, [], ["boredom=0.1"], "'boredom' is no hazard"),
        (None, ["=0.1"], [], "'' is no hazard"),
        (None, ["privacy=0.1", "privacy=0.2"], [], r"said twice: missed_unsafe\.privacy"),
    ],
)
def test_what_makes_no_sense_is_refused(escalation, missed, false_positive, message) -> None:
    with pytest.raises(WishError, match=message):
        parse_wishes(escalation, missed, false_positive)
