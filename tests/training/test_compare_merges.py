"""The tables of merge rules and of stage 2s: each is measured on rows that its numbers were not fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from cascade.evaluate.rows import Row
from cascade.merging.stages import RULES
from cascade.policy import default_policy
from cascade.tune.sample import Sample
from training import compare_stage2
from training.compare_merges import ALONE, compare, table
from training.held_out import KINDS, HeldOut, unbound
from training.hold_out import rows

ROWS = 600


def rows_and_scores(seed: int, *, informed: bool = True, share: float = 0.4) -> tuple[HeldOut, Sample]:
    """Rows of all kinds; both stages see the truth through noise of their own, or stage 2 sees nothing."""
    rng = np.random.default_rng(seed)
    sources = [members[0] for members in KINDS.values()]
    unsafe = (rng.random(ROWS) < share).astype(float)
    truth = 2 * (2 * unsafe - 1)
    z1, z2 = truth + rng.normal(0, 2, ROWS), (truth if informed else 0) + rng.normal(0, 2, ROWS)
    held = HeldOut(
        [Row(str(number), f"text {number}", None, bool(unsafe[number]), (), "en") for number in range(ROWS)],
        [sources[number // 2 % len(sources)] for number in range(ROWS)],
        unsafe,
        np.full((ROWS, 14), np.nan),
    )
    nothing, cells = np.zeros(ROWS), np.full((ROWS, 14), -1.0)
    p1, p2 = 1 / (1 + np.exp(-z1)), 1 / (1 + np.exp(-z2))
    sample = Sample(
        unsafe=unsafe == 1,
        harmless=unsafe == 0,
        carries=cells > 0,
        stage1=p1,
        stage2=p2,
        merged=nothing,
        near=cells,
        hazards=cells,
        of_stage1=cells,
        worth=p1,
        triggered=nothing > 0,
        unread=nothing > 0,
        audit=nothing,
        tokens=nothing,
        lang=np.full(ROWS, "en"),
    )
    return held, sample


def test_every_rule_has_its_figures_and_merging_two_views_of_the_truth_helps() -> None:
    held, scores = rows_and_scores(1)
    found = compare(held, scores, unbound(default_policy()), budget=0.6)
    assert list(found) == [*ALONE, *RULES]
    for rule in ("noisy_or", "logit_mean", "stacker"):
        for kind in KINDS:
            assert found[rule][kind]["auprc"] > found[ALONE[0]][kind]["auprc"]
    assert found[ALONE[0]]["chat"]["escalated"] == 0.0
    assert 0.5 < found["max"]["chat"]["escalated"] < 0.75
    lines = table(found).splitlines()
    assert len(lines) == 2 + len(found)
    assert {line.count("|") for line in lines} == {2 + 4 * len(KINDS)}


def test_a_fit_to_noise_does_not_show_as_a_gain() -> None:
    held, scores = rows_and_scores(2, informed=False)
    found = compare(held, scores, unbound(default_policy()), budget=0.6)
    assert np.mean([found[ALONE[1]][kind]["auprc"] for kind in KINDS]) == pytest.approx(0.4, abs=0.07)
    for kind in KINDS:
        assert found["max"][kind]["auprc"] < found[ALONE[0]][kind]["auprc"]


def test_a_stage_2_adds_what_it_knows_within_its_budget() -> None:
    added = {}
    for informed in (True, False):
        held, scores = rows_and_scores(4, informed=informed, share=0.15)
        found = compare_stage2.compare(held, scores, unbound(default_policy()))
        assert list(found) == ["stage 1 alone", "10%", "20%", "30%", "always"]
        assert found["20%"]["chat"]["escalated"] == pytest.approx(0.2, abs=0.06)
        assert found["30%"]["chat"]["escalated"] == pytest.approx(0.3, abs=0.06)
        added[informed] = found["30%"]["chat"]["auprc"] - found["stage 1 alone"]["chat"]["auprc"]
    assert added[True] > added[False] + 0.01
    lines = compare_stage2.table({"judge": found}).splitlines()
    assert len(lines) == 2 + len(found)
    assert {line.count("|") for line in lines} == {3 + 3 * len(KINDS)}


def test_held_out_rows_are_written_in_the_uniform_form() -> None:
    held, _ = rows_and_scores(3)
    written = list(rows(held))
    assert len(written) == ROWS
    assert set(written[0]) == {"id", "source", "lang", "text", "unsafe"}
    assert {row["source"] for row in rows(held, ["chat"])} == {"toxicchat"}
    assert list(rows(held, lang="de")) == []
    unknown = HeldOut(held.rows, held.sources, np.full(ROWS, np.nan), held.hazards)
    assert list(rows(unknown)) == []
