"""Which hazards block by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cascade.tune.sample import Sample
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS
from tests.fakes import fake_policy
from training.fit_blocking import fit_blocking
from training.held_out import HeldOut

ROWS = 100  # of each of two kinds; every second one is unsafe
POLICY = fake_policy("".join(f"[hazards.{slug}]\nthreshold = 0.5\n" for slug in HAZARD_SLUGS))
UNSAFE = np.tile([0.0, 1.0], ROWS)
PROMPT = np.arange(2 * ROWS) < ROWS


def held() -> HeldOut:
    sources = ["guard_prompts" if prompt else "comments" for prompt in PROMPT]
    return HeldOut([], sources, UNSAFE, np.full((2 * ROWS, len(HAZARD_SLUGS)), np.nan))


def scores(**flagged: np.ndarray) -> Sample:
    """All rows reach stage 2; the merged score knows the unsafe prompts and no comment; hazards flag these rows."""
    rows, many = len(UNSAFE), len(HAZARD_SLUGS)
    hazards = np.full((rows, many), 0.1)
    for slug, which in flagged.items():
        hazards[which, HAZARD_INDEX[slug]] = 0.9
    flat, none, off = np.zeros(rows), np.full((rows, many), -1.0), np.zeros(rows, dtype=bool)
    merged = np.where(PROMPT & (UNSAFE == 1), 0.9, 0.1)
    return Sample(
        unsafe=UNSAFE == 1, harmless=UNSAFE == 0, carries=none > 0, stage1=flat, stage2=merged, merged=merged,
        near=none, hazards=hazards, of_stage1=none, worth=flat + 1, triggered=off, unread=off, audit=flat + 1,
        tokens=flat, lang=np.full(rows, "en"),
    )  # fmt: skip


def blocking(sample: Sample) -> list[str]:
    return [slug for slug, rule in fit_blocking(POLICY, held(), sample).hazards.items() if rule.action == "BLOCK"]


def test_a_hazard_that_sees_what_the_judge_misses_blocks_by_itself() -> None:
    assert blocking(scores(hate=~PROMPT & (UNSAFE == 1))) == ["child_exploitation", "hate"]


def test_not_if_it_costs_another_kind_of_traffic() -> None:
    gain = ~PROMPT & (UNSAFE == 1)
    alarms = PROMPT & (UNSAFE == 0) & (np.arange(len(UNSAFE)) % 20 == 0)
    assert alarms.sum() == 5
    assert blocking(scores(hate=gain | alarms)) == ["child_exploitation"]


def test_not_for_a_row_or_two_that_may_be_luck() -> None:
    luck = np.zeros(len(UNSAFE), dtype=bool)
    luck[np.flatnonzero(~PROMPT & (UNSAFE == 1))[:2]] = True
    assert blocking(scores(hate=luck)) == ["child_exploitation"]


def test_not_twice_for_the_same_rows() -> None:
    gain = ~PROMPT & (UNSAFE == 1)
    assert blocking(scores(hate=gain, violent_crimes=gain)) == ["violent_crimes", "child_exploitation"]


def test_what_blocked_before_has_to_earn_it_again() -> None:
    once = fit_blocking(POLICY, held(), scores(hate=~PROMPT & (UNSAFE == 1)))
    again = fit_blocking(once, held(), replace(scores()))
    assert [slug for slug, rule in again.hazards.items() if rule.action] == ["child_exploitation"]
