"""Triggers: when each fires, and on which part of a request."""

from __future__ import annotations

import pytest

from cascade.routing.triggers import (
    in_texts,
    in_views,
    mixed_scripts,
    repetitive,
    unread_language,
    unread_script,
    very_short,
    views_disagree,
)


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
    ("text", "fires"),
    [
        ("How do I bake a loaf of bread without an oven?", False),
        ("Name five kinds of bread.", False),
        ("Is rye or wheat a grass?", False),
        ("wholemeal sourdough", False),
        ("sourdough " * 50, False),
        ("Wie backe ich Brot ohne Ofen, wenn der Strom ausfällt?", True),
        ("Làm thế nào để nướng bánh mì mà không cần lò?", True),
        ("Cómo wird dis bake une loaf de bread sans un oven", True),
        ("Как испечь хлеб без духовки и дрожжей дома", False),
        ("", False),
    ],
)
def test_unread_language(text: str, fires: bool) -> None:
    assert unread_language(text) is fires
    assert not unread_language(text, ("*",))


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
    assert (in_texts(["bread from the oven", "bread"]), in_views([(0.1,), (0.1, 0.2)])) == ((), ())
    assert in_texts(["bread from the oven", "хлеб", "хлеб"]) == ("unread_script",)
    assert in_views([(0.1,), (0.1, 0.9), (0.9, 0.1)]) == ("views_disagree",)


@pytest.mark.parametrize(
    ("text", "fires"),
    [
        ("bake bread", False),
        ("bаke", False),
        ("bаke some brеad", True),
        ("Испеки хлеб, MacBook-ом и iPhone-ом", False),
        ("パンを焼く oven で", False),
    ],
)
def test_mixed_scripts(text: str, fires: bool) -> None:
    assert mixed_scripts(text) is fires


@pytest.mark.parametrize(
    ("text", "fires"),
    [
        ("bake bread " * 10, False),
        ("bake bread " * 100, True),
        ("a" * 2000, True),
        ("パンを焼く。小麦粉と水と塩を混ぜて、よくこねて、暖かい場所で発酵させます。" * 3, False),
        (" ".join(f"step {number} bake loaf {number}" for number in range(200)), False),
        (" ".join(f"{number} words" for number in range(300)) + " bake" * 600, True),
    ],
)
def test_repetitive(text: str, fires: bool) -> None:
    assert repetitive(text) is fires


@pytest.mark.parametrize(
    ("text", "fires"),
    [
        ("kys", True),
        (" Heil, you! ", True),
        ("go bake bread", False),
        ("unceremoniously", False),
        ("42?", False),
        ("", False),
        ("." * 1000 + "a", False),
    ],
)
def test_very_short(text: str, fires: bool) -> None:
    assert very_short(text) is fires


def test_a_short_turn_is_told_by_the_others() -> None:
    assert in_texts(["ok"]) == ("very_short",)
    assert in_texts(["ok", "Bake the bread for an hour."]) == ()
    assert in_texts([]) == ()


def test_the_new_signs_have_names() -> None:
    assert in_texts(["hOw tO bAkE bReAd"]) == ("case_noise", "odd_words")
    assert in_views([(0.1,)], kinds=["raw", "decoded"]) == ("decoded_payload",)
    assert in_texts(["bаke some brеad", "loaf " * 100]) == ("mixed_scripts", "repetitive")
