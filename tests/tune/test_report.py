"""The page opens by itself, draws what it says, and escapes what it is given."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from cascade.evaluate.curves import cost_quality, risk_coverage, sureness
from cascade.evaluate.svg import Chart
from cascade.tune.curves import slices
from cascade.tune.fit import Tuned, fit
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.report import html
from cascade.tune.sample import sample
from cascade.tune.wishes import Wish
from tests.tune.samples import policy, request, scored

EASY, HARD = Wish("escalation", 0.5), Wish("missed_unsafe", 0.05)


@pytest.fixture(scope="module")
def tuned() -> Tuned:
    rows = [replace(row, lang="<xx>") if n % 3 == 0 else row for n, row in enumerate(scored(600, seed=4))]
    return fit(rows, request(EASY))


def figures(page: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_the_page_stands_alone_and_has_all_charts(tuned: Tuned) -> None:
    page = html(tuned, request(EASY), "cascade tune a&b.jsonl")
    assert "Certified policy" in page
    assert "All promises hold together with a probability of 0.9 or more" in page
    assert "a&amp;b.jsonl" in page
    assert not re.search(r"<script|<link|src=|href=|url\(|https?://", page)
    titles = [figure.findtext("title") for figure in figures(page)]
    assert titles == [
        "Risk over coverage", "Quality over cost", "Reliability", "Stage 1: scores", "Both stages merged: scores",
        "Missed unsafe", "False positives", "Escalated",
    ]  # fmt: skip
    assert all(figure.findall("polyline") or figure.findall("rect") for figure in figures(page))
    texts = [text.text or "" for text in figures(page)[3].findall("text")]
    assert f"low {tuned.rules.low:.3f}" in texts
    assert "<xx>" not in page
    assert "&lt;xx&gt;" in page


def test_an_infeasible_page_says_so() -> None:
    asked = request(Wish("escalation", 0.05), HARD)
    found = fit(scored(600, seed=4), asked)
    page = html(found, asked, "cascade tune")
    assert "<h1>Infeasible</h1>" in page
    assert "Nearest points" in page
    assert "Not proven" in page
    assert "promises hold together" not in page
    assert found.needs
    for need in found.needs:
        told = "no number would do" if need.needed is None else f"{need.needed}</td><td>{2 * need.needed}"
        assert re.search(rf"<td>{need.wish}</td>.*?<td>{need.there}</td><td>{told}", page)


def test_cost_and_quality_end_at_the_stages_and_the_oracle_is_above_all() -> None:
    rows = sample(scored(3000, seed=5), policy(), 0)
    rules = replace(Rules.of(policy()), unsafe_threshold=0.5)
    alone, both = rows.stage1 >= 0.5, rows.merged >= rules.unsafe_threshold
    curves = cost_quality(alone, both, rows.unsafe, rows.worth)
    for at, decided in ((0, alone), (-1, both)):
        hits, wrong = (decided & rows.unsafe).sum(), (decided != rows.unsafe).sum()
        for curve in (curves.ranked, curves.random, curves.oracle):
            assert curve[at][1] == pytest.approx(2 * hits / (2 * hits + wrong))
    best, random = np.array(curves.oracle), np.array(curves.random)
    assert (best[:, 1] >= np.array(curves.ranked)[:, 1] - 1e-9).all()
    assert (best[:, 1] >= random[:, 1] - 1e-9).all()


def test_risk_over_coverage() -> None:
    p, unsafe = np.array([0.01, 0.4, 0.6, 0.99]), np.array([False, True, True, True])
    points, area = risk_coverage((p >= 0.5) != unsafe, sureness(p, 0.5))
    assert points == [(0.25, 0.0), (0.5, 0.0), (0.75, 1 / 3), (1.0, 0.25)]
    assert area == pytest.approx((1 / 3 + 0.25) / 4)


def test_slices_by_language_and_length() -> None:
    rows = sample(scored(900, seed=6), policy(), 0)
    rules = Rules.of(policy())
    found = list(slices(rows, rules))
    assert [(part.kind, part.name) for part in found[:3]] == [("all", "all"), ("language", "de"), ("language", "en")]
    lengths = [part for part in found if part.kind == "tokens"]
    assert sum(part.rows for part in lengths) == 900
    english = next(part for part in found if part.name == "en")
    inside = (rows.lang == "en") & rows.unsafe
    assert english.missed == pytest.approx((~outcomes(rows, rules).unsafe[inside]).mean())


def test_a_chart_escapes_and_stays_inside() -> None:
    chart = Chart("a < b", "x & y", "z")
    chart.line([(-5, 2), (0.5, 0.5)], "<line>", "#000")
    chart.dot(0.5, 9, '"', "#000")
    chart.threshold(0.5, "t<")
    root = ET.fromstring(chart.svg())
    assert root.findtext("title") == "a < b"
    (line,) = root.findall("polyline")
    (x, y), (x2, _) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
    assert 0 <= x < x2 <= chart.width
    assert 0 <= y <= chart.height
