"""Joint texts: markers that nobody can forge, bounded history, and the way back to the fields."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.text.canonical import canonical
from cascade.text.joint import MARK, MAX_LENGTH, Said, escape, join
from stages.registry import load_stage

ROLES = ["user", "assistant", "system", "tool"]
# Texts that try to pass for turns: with markers, with what looks like one, and with pieces of either.
FORGED = st.lists(
    st.sampled_from([MARK, " ", "user", "assistant", f"{MARK} user {MARK} ", "¶\ufe0e", "\u200b¶", "|", "⁋", "a\n"])
    | st.characters(exclude_categories=["Cs"]),
    max_size=30,
).map("".join)
TURNS = st.lists(st.tuples(st.sampled_from(ROLES), FORGED.filter(bool)), min_size=2, max_size=8)


def said(turns: list[tuple[str, str]]) -> list[Said]:
    return [Said(role, f"turns[{index}]", text) for index, (role, text) in enumerate(turns)]


def test_an_exchange_reads_as_one_text() -> None:
    together, before = join([Said("user", "prompt", "Why?"), Said("assistant", "response", "Because.")])
    assert together.text == "¶ user ¶ Why? ¶ assistant ¶ Because."
    assert before.text == "¶ user ¶ Why?"


@given(TURNS)
def test_nobody_forges_a_marker(turns: list[tuple[str, str]]) -> None:
    for joint in join(said(turns)):
        found = re.split(rf"{MARK} (\w+) {MARK} ", joint.text)
        assert joint.text.count(MARK) == 2 * len(joint.pieces)
        roles = [turns[int(piece.field[6:-1])][0] for piece in joint.pieces]
        assert found[1::2] == roles


@given(TURNS)
@pytest.mark.parametrize("name", ["tinysafe", "hazard"])
def test_nobody_forges_the_tokens_of_a_marker(name: str, turns: list[tuple[str, str]]) -> None:
    encode = STAGES[name].encode
    marker = (set(encode(MARK).windows[0].ids) - set(encode(" ").windows[0].ids)).pop()
    for joint in join(said(turns)):
        for text in (joint.text, canonical(joint.text)):
            windows = encode(text).windows
            count = sum(window.ids.count(marker) for window in windows)
            assert count == 2 * len(joint.pieces) or len(windows) > 1


STAGES = {name: load_stage(name) for name in ("tinysafe", "hazard")}


@given(TURNS, st.data())
def test_any_stretch_leads_back_to_the_same_text(turns: list[tuple[str, str]], data: st.DataObject) -> None:
    texts = {f"turns[{index}]": text for index, (_, text) in enumerate(turns)}
    joint, _ = join(said(turns))
    start = data.draw(st.integers(0, len(joint.text)))
    end = data.draw(st.integers(start, len(joint.text)))
    for field, first, last in joint.places(start, end):
        assert 0 <= first < last <= len(texts[field])
        assert escape(texts[field][first:last]) in joint.text[start:end]
    assert sum(last - first for _, first, last in joint.places(0, len(joint.text))) <= MAX_LENGTH


def test_history_is_bounded_and_the_latest_text_comes_first_in_its_share() -> None:
    turns = [("user", "a" * 5000), ("assistant", "b" * 300), ("user", "c" * 2000)]
    joint, before = join(said(turns))
    assert [(piece.field, piece.end - piece.start, piece.offset) for piece in joint.pieces] == [
        ("turns[0]", 100, 4900),
        ("turns[1]", 300, 0),
        ("turns[2]", 400, 0),
    ]
    assert joint.text.startswith(before.text)
    short, _ = join(said([("user", "a" * 10), ("user", "c" * 2000)]))
    assert [piece.end - piece.start for piece in short.pieces] == [10, MAX_LENGTH - 10]


def test_an_escaped_text_keeps_its_length() -> None:
    assert escape("a ¶ b¶") == "a | b|"
