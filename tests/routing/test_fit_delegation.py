"""Fitting routers on rows in which stage 2 mends what can be foreseen, and comparing them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.evaluate.rows import Row
from cascade.policy import default_policy, load, parse
from cascade.routing.router import Signals
from cascade.tune.routing import Stakes
from cascade.tune.scores import ScoredRow
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS
from tests.fakes import FakeStage, fake_pipeline
from tests.routing.networks import random_network, route_table
from tests.tune.samples import MODELS
from training import fit_policy
from training.delegation import feature_matrix, fit_network, targets, weights
from training.fit_delegation import fit_routers, folds, write
from training.held_out import HeldOut, Scored, score, unbound

POLICY = parse(
    'schema = 1\nname = "p"\n[stage1]\nunsafe_threshold = 0.5\n[stage2]\nunsafe_threshold = 0.5\n[route]\nlow = 0.1\n'
    '[merge]\nrule = "stacker"\ncontroversial_threshold = 0.4\n[merge.stacker]\nw1 = 0.1\nw2 = 0.9\n'
)
SOURCES = ("toxicchat", "guard_prompts", "hazards")


def rows_of(count: int, seed: int = 0) -> tuple[HeldOut, Scored]:
    """Stage 1 misses unsafe texts that are "harassment", which it scores, and stage 2 knows them.

    Stage 2 is wrong about short texts that stage 1 is torn about, so that a band, which sees only the verdict, spoils.
    """
    rng = np.random.default_rng(seed)
    held, scored = [], []
    for number in range(count):
        unsafe = bool(rng.random() < 0.3)
        hidden = unsafe and rng.random() < 0.4
        z1 = rng.normal(-3 if hidden or not unsafe else 3, 1)
        short = not unsafe and rng.random() < 0.25
        z2 = 5.0 if unsafe or short else -5.0
        z1 = rng.normal(-1, 0.3) if short else z1
        held.append(Row(str(number), " ".join(map(str, rng.integers(0, 10**6, 12))), None, unsafe, (), "en"))
        scored.append(
            ScoredRow(
                id=str(number), unsafe=unsafe, labels=(), lang="en", tokens=4 if short else int(rng.integers(20, 200)),
                stage1=_p(z1), stage2=_p(z2), hazards={}, stage1_hazards={}, triggers=(),
                stage1_labels={"harassment": _p(rng.normal(2 if hidden else -4, 0.5)), "hate": _p(rng.normal(-4, 1))},
            )
        )  # fmt: skip
    sources = [SOURCES[number % 3] for number in range(count)]
    targets = np.array([float(row.unsafe or 0) for row in held])
    cells = np.full((count, 14), np.nan)
    return HeldOut(held, sources, targets, cells), Scored(scored, MODELS)


def _p(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    held, scored = rows_of(330)
    out = tmp_path_factory.mktemp("routers")
    policies, found = fit_routers(held, scored, POLICY, 0.4, escalate_flagged=True)
    write(out, policies, found, "Fitted for a test.")
    return out


def test_the_policies_that_are_written_load_and_route(fitted: Path) -> None:
    delegation, margin = load(fitted / "delegation.toml"), load(fitted / "margin.toml")
    assert (delegation.route.kind, margin.route.kind) == ("delegation", "margin")
    assert delegation.route.delegation is not None
    assert delegation.route.delegation.features == ["unsafe", "harassment", "hate", "tokens"]
    assert delegation.route.delegation.stage1 == MODELS["stage1"]
    hidden = Signals(0.05, {"harassment": 0.9, "hate": 0.02}, tokens=80)
    plain = Signals(0.05, {"harassment": 0.02, "hate": 0.02}, tokens=80)
    assert delegation.router.route(hidden).escalate
    assert not delegation.router.route(plain).escalate
    assert "harassment" in margin.route.margins


def test_the_learned_router_chooses_better_than_a_band_and_the_report_says_so(fitted: Path) -> None:
    found = json.loads((fitted / "routers.json").read_text())
    assert len(found) == 2
    for kinds in found.values():
        assert list(kinds) == ["chat", "guard", "prompts"]
        for part in kinds.values():
            routers = part["routers"]
            assert set(routers) == {"band", "margin", "delegation", "oracle", "random"}
            assert routers["delegation"]["f1_best"] > routers["band"]["f1_best"] + 0.02
            assert routers["delegation"]["routing_f1_best"] > 0.8 > routers["band"]["routing_f1_best"]
            assert routers["oracle"]["f1_best"] >= routers["delegation"]["f1_best"] - 0.02
            assert routers["random"]["curve"][0][1] == part["f1_alone"]
    for part in found["flags are left to the router"].values():
        mean, least, most = part["gain_over_band"]["delegation"]
        assert 0 <= least <= mean <= most
        assert mean > 0.02
    text = (fitted / "routers.md").read_text()
    assert text.count("| delegation |") == 6
    assert "| oracle |" in text


def test_the_curves_are_drawn_on_a_page_that_opens_by_itself(fitted: Path) -> None:
    page = (fitted / "routers.html").read_text()
    charts = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert str(charts[0].findtext("title")).startswith("Quality over cost: chat, ")
    assert len(charts) == 6, "two ways to treat flags, three kinds of traffic"
    for chart in charts:
        assert len(chart.findall("polyline")) == 5
        drawn = {text.text for text in chart.findall("text")}
        assert {"band", "margin", "delegation", "oracle", "random"} <= drawn
    assert not re.search(r"<script|<link|src=|href=|url\(|https?://", page)
    assert "Fitted for a test." in page


def test_rows_are_judged_by_routers_that_never_saw_them_or_a_copy_of_them() -> None:
    held, _ = rows_of(60)
    held.rows[1:3] = [
        replace(held.rows[1], text=held.rows[0].text.upper()),
        replace(held.rows[2], text=held.rows[0].text + " x"),
    ]
    fold = folds(held, 5, seed=1)
    assert fold[0] == fold[1] == fold[2]
    assert len(set(fold.tolist())) == 5
    assert folds(held, 5, seed=1).tolist() == fold.tolist()


def test_chance_cannot_be_learned() -> None:
    """Where stage 2 mends and spoils by chance, a network thinks of new rows what it likes."""
    rng = np.random.default_rng(4)
    x, gain = rng.normal(size=(600, 3)), rng.integers(-1, 2, 600)
    network = fit_network(x[:300], np.eye(3)[gain[:300] + 1], np.full(300, 1 / 300), ("a", "b", "c"), seed=0)
    assert abs(np.corrcoef(network.worth(x[300:]), gain[300:])[0, 1]) < 0.2


def test_the_same_rows_and_seed_give_the_same_network() -> None:
    _held, scored = rows_of(150)
    names = ("unsafe", "harassment", "hate", "tokens")
    x = feature_matrix(scored.rows, names)
    gain = np.array([1 if r.stage1_labels["harassment"] > 0.5 else 0 for r in scored.rows])
    weight = np.full(len(x), 1 / len(x))
    one, other, third = (fit_network(x, np.eye(3)[gain + 1], weight, names, seed).worth(x) for seed in (0, 0, 1))
    assert one.tolist() == other.tolist()
    assert one.tolist() != third.tolist()
    assert one[gain == 1].min() > 0.75 > 0.6 > one[gain == 0].max()


def test_what_stage_2_does_to_a_verdict_is_told_softly() -> None:
    row = rows_of(1)[1].rows[0]
    pairs = [(False, 0.5, 0.999999), (True, 0.000001, 0.999999), (True, 0.999999, 0.000001), (True, 0.3, 0.3)]
    rows = [replace(row, unsafe=bad, stage1=first, stage2=second) for bad, first, second in pairs]
    alone = POLICY.model_copy(
        update={"merge": parse(POLICY.toml.replace("w1 = 0.1", "w1 = 1e-9").replace("w2 = 0.9", "w2 = 1.0")).merge}
    )
    spoils, leaves, mends = targets(Scored(rows, MODELS).sample(alone), 0.5, 0.5).T
    assert spoils == pytest.approx([0.5, 0, 1, 0], abs=1e-4)
    assert leaves == pytest.approx([0.5, 0, 0, 1], abs=1e-4)
    assert mends == pytest.approx([0, 1, 0, 0], abs=1e-4)


def test_rows_that_are_escalated_anyhow_weigh_nothing_and_misses_weigh_more() -> None:
    alone, both = np.array([0, 0, 1, 1, 1], bool), np.array([1, 0, 1, 1, 0], bool)
    stakes = Stakes(alone, both, np.array([1, 0, 1, 0, 0], bool), np.array([0, 0, 1, 0, 0], bool))
    weight = weights(stakes)
    assert weight.sum() == pytest.approx(1)
    assert weight[2] == 0
    assert weight[0] > weight[1] == weight[3] > 0


# --- the hazards that are never left to one stage ---


def careful_rows(near_of_carriers: float, near_of_traffic: float) -> tuple[HeldOut, Scored]:
    """100 chat prompts and 50 texts about weapons, all of which stage 1 passes."""
    rows, scored, sources = [], [], []
    cells = np.full((150, 14), np.nan)
    for number in range(150):
        carries = number >= 100
        near = near_of_carriers if carries else near_of_traffic * (number + 1) / 100
        rows.append(Row(str(number), f"text {number}", None, carries, (), "en"))
        sources.append("hazards" if carries else "toxicchat")
        cells[number, HAZARD_INDEX["indiscriminate_weapons"]] = float(carries)
        scored.append(
            ScoredRow(
                id=str(number), unsafe=carries, labels=(), lang="en", tokens=20, stage1=0.05, stage2=0.9, triggers=(),
                stage1_labels={"dangerous_info": near, "violence": 0.0001, "sexual": 0.0001},
                hazards=dict.fromkeys(HAZARD_SLUGS, 0.1), stage1_hazards={},
            )
        )  # fmt: skip
    return HeldOut(rows, sources, np.array([float(n >= 100) for n in range(150)]), cells), Scored(scored, MODELS)


@pytest.mark.parametrize(
    ("carriers", "traffic", "reason", "at", "seen"),
    [
        pytest.param(0.2, 0.1, "sees 98%", 0.2, 1.0, id="as high as finds them"),
        pytest.param(0.9, 0.1, "sees 98%", 0.25, 1.0, id="never above half of the threshold"),
        pytest.param(0.02, 0.2, "spends 1.0%", 0.2, 0.0, id="as low as the budget allows"),
    ],
)
def test_a_hazard_is_escalated_as_early_as_it_takes_and_as_can_be_paid_for(
    carriers: float, traffic: float, reason: str, at: float, seen: float
) -> None:
    held, scored = careful_rows(carriers, traffic)
    policy, found = fit_policy.fit_sensitive(POLICY, held, scored.sample(POLICY))
    why = found["indiscriminate_weapons"]
    assert (why.reason, why.at, why.seen, why.without, why.carriers) == (reason, pytest.approx(at), seen, 0.0, 50)
    assert why.costs <= 0.011
    assert policy.hazards["indiscriminate_weapons"].escalate_at == why.at
    assert parse(policy.toml).hazards["child_exploitation"].escalate_at is not None
    assert policy.hazards["hate"].escalate_at is None


def test_scores_are_kept_for_the_next_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stages = FakeStage(), FakeStage("hazard")
    monkeypatch.setattr(
        "training.held_out.build_pipeline", lambda policies, **specs: fake_pipeline(*stages, policies=policies)
    )
    held = HeldOut(
        [Row(str(n), f"a {'bad' if n % 3 == 0 else 'calm'} day {n}", None, n % 3 == 0, (), "en") for n in range(9)],
        ["toxicchat"] * 9, np.array([float(n % 3 == 0) for n in range(9)]), np.full((9, 14), np.nan),
    )  # fmt: skip
    base = unbound(default_policy())
    first = score(held, "one", "two", base, tmp_path / "scores.jsonl")
    calls = len(stages[1].calls)
    again = score(held, "one", "two", base, tmp_path / "scores.jsonl")
    assert again.rows == first.rows
    assert len(stages[1].calls) == calls, "nothing was scored twice"
    assert [row.unsafe for row in first.rows] == [row.unsafe for row in held.rows]
    assert first.names == "fake-tinysafe@r1 and fake-hazard@r1"
    held.rows[0] = replace(held.rows[0], unsafe=False)
    assert score(held, "one", "two", base, tmp_path / "scores.jsonl").rows[0].unsafe is False


def test_what_ties_a_policy_to_its_models_is_taken_off(tmp_path: Path) -> None:
    table = route_table(random_network())
    bound = parse(f'schema = 1\nname = "p"\n{table}[models]\nstage1 = "{"1" * 64}"\n')
    free = unbound(bound)
    assert parse(free.toml) == free
    assert (free.route.delegation, free.models.stage1, free.route.kind) == (None, None, "band")
