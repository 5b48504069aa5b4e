"""Triggers: when each fires, and on which part of a request."""

from __future__ import annotations

import pytest

from cascade.routing.triggers import fired, unread_script, views_disagree


@pytest.mark.parametrize(
    ("text", "fires"),
    [("", False), ("12345", False), ("Bake bread, хлеб", True), ("Bake the bread, да", False), ("パンを焼く", True)],
)
def test_unread_script(text: str, fires: bool) -> None:
    assert unread_script(text) is fires


def test_a_script_that_is_read_does_not_fire() -> None:
    assert not unread_script("хлеб", ("Latin", "Cyrillic"))
    assert not unread_script("хлеб", ("*",))


@pytest.mark.parametrize(
    ("scores", "fires"),
    [
        ((), False),
        ((0.9,), False),
        ((0.1, 0.35), False),
        ((0.1, 0.45), True),
        ((0.9, 0.1), True),
        ((0.5, 0.1, 0.5), True),
    ],
)
def test_views_disagree(scores: tuple[float, ...], fires: bool) -> None:
    assert views_disagree(scores) is fires


def test_any_part_fires_and_names_come_once_in_order() -> None:
    assert fired(["bread", "bread"], [(0.1,), (0.1, 0.2)]) == ()
    assert fired(["bread", "хлеб", "хлеб"], [(0.1,), (0.1, 0.9), (0.9, 0.1)]) == ("unread_script", "views_disagree")
