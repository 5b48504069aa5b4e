"""``cascade tune`` for every kind of router, and what tells how good a router chooses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.content import check_request
from cascade.errors import PolicyError
from cascade.evaluate.rows import DataError, Row
from cascade.policy import Policy, calibration_digest, fingerprint, load, parse
from cascade.policy.certificate import CertifiedModel
from cascade.routing.margin import UNSAFE
from cascade.tune.certify import promises
from cascade.tune.fit import fit
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.routing import Stakes, closeness, label_logits, margins_of, with_kind
from cascade.tune.sample import halves, sample
from cascade.tune.scoring import score_rows
from cascade.tune.wishes import Wish
from cascade.v1.check_pb2 import Verdict
from tests.fakes import FakeStage, fake_pipeline, fake_policy
from tests.routing.networks import mends, random_network, route_table
from tests.tools.conftest import cascade, fakes  # noqa: F401 - fixtures
from tests.tune.samples import policy, request, scored
from tests.tune.test_command import write_log
from tests.tune.test_outcomes import FIRST, SECOND, texts

MARGINS = "[route]\nkind = 'margin'\naudit_rate = 0.0\n{}\n[route.margins]\nunsafe = 1.0\nviolence = 2.0"
MARGIN = MARGINS.format("at = 0.4")
MARGIN_ALONE = MARGINS.format("at = 0.4\nescalate_flagged = false")


def delegating(more: str = "", **weights: float) -> Policy:
    table = route_table(mends(**weights) if weights else random_network(2), more)
    return parse(fake_policy().toml.split("[route]")[0] + table + '[merge]\nrule = "max"')


@pytest.mark.parametrize("kind", ["margin", "margin alone", "delegation", "delegation alone"])
def test_over_arrays_a_policy_does_what_the_pipeline_does(kind: str, tmp_path: Path) -> None:
    made = {
        "margin": lambda: fake_policy(MARGIN),
        "margin alone": lambda: fake_policy(MARGIN_ALONE),
        "delegation": lambda: delegating("at = 0.5", violence=0.3, unsafe=0.1),
        "delegation alone": lambda: delegating("at = 0.5\nescalate_flagged = false", violence=0.5),
    }
    chosen = made[kind]()
    rows = [Row(str(n), text, None, n % 2 == 0, (), "en") for n, text in enumerate(texts(120))]

    async def both():
        pipeline = fake_pipeline(FakeStage(words=FIRST), FakeStage("hazard", words=SECOND), policies=[chosen])
        answers = [await pipeline.check(check_request(row.text)) for row in rows]
        found = await score_rows(rows, pipeline, in_flight=4)
        await pipeline.close()
        return answers, found

    answers, found = asyncio.run(both())
    done = outcomes(sample(found, chosen, seed=0), Rules.of(chosen))
    assert done.escalated.tolist() == [answer.route.escalated for answer in answers]
    assert done.unsafe.tolist() == [answer.verdict == Verdict.VERDICT_UNSAFE for answer in answers]
    assert 0 < done.escalated.sum() < len(rows)
    passed_unsafe = [a for a in answers if not a.route.escalated and a.verdict == Verdict.VERDICT_UNSAFE]
    assert bool(passed_unsafe) == ("alone" in kind)


@pytest.mark.parametrize("kind", ["band", "margin", "delegation"])
def test_a_policy_of_each_kind_is_tuned_and_certified(kind: str, tmp_path: Path) -> None:
    wishes = [Wish("escalation", 0.45), Wish("missed_unsafe", 0.3)]
    base = policy() if kind != "delegation" else network_policy()
    asked = request(*wishes, policy=with_kind(base, kind))
    rows = scored(3000, seed=5)
    tuned = fit(rows, asked)
    assert tuned.policy is not None
    assert tuned.policy.route.kind == kind
    bar = tuned.policy.route.low if kind == "band" else tuned.policy.route.at
    assert bar == tuned.rules.low
    # What was promised is what the policy that was written does on the half that certified it.
    certified = halves(sample(rows, tuned.policy, 0), 0)[1]
    again = promises(Rules.of(tuned.policy), certified, wishes, asked.delta)
    assert again == tuned.proof.promises
    assert all(promise.p_value <= asked.delta for promise in again)


def network_policy() -> Policy:
    """A policy with the merge of :func:`tests.tune.samples.policy` and a network that likes what is near 1/2."""
    hidden = [[1.0, 0.0], [-1.0, 0.0]]
    file = random_network(
        features=["unsafe", "tokens"], mean=[0.0, 0.0], scale=[1.0, 1.0], hidden=hidden, hidden_bias=[2.0, 2.0],
        output=[[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], output_bias=[0.0, 0.0, 0.0],
    )  # fmt: skip
    merge = '[merge]\nrule = "logit_mean"'
    return parse(policy().toml.split("[route]")[0] + route_table(file) + merge)


def test_margins_are_fitted_on_the_half_that_is_searched_only() -> None:
    asked = request(Wish("escalation", 0.5), policy=with_kind(policy(), "margin"))
    rows = scored(1200, seed=1)
    first, second = (set(half.tokens.tolist()) for half in halves(sample(rows, policy(), 0), 0))
    assert first != second
    order = np.random.default_rng(0).permutation(len(rows))
    spoilt = list(rows)
    for index in order[len(rows) // 2 :].tolist():
        spoilt[index] = replace(rows[index], stage1_labels={"illegal_activity": 0.5})
    fitted = [fit(given_rows, asked) for given_rows in (rows, spoilt)]
    margins = [tuned.policy.route.margins for tuned in fitted if tuned.policy]
    assert len(margins) == 2
    assert margins[0] == margins[1]


def test_a_network_needs_its_labels_in_the_rows(tmp_path: Path) -> None:
    base = delegating()
    with pytest.raises(DataError, match="asks for stage 1's label 'violence'"):
        sample(scored(20, seed=0), base, 0)


def test_a_kind_that_the_policy_cannot_have_is_refused() -> None:
    with pytest.raises(PolicyError, match="has no network"):
        with_kind(policy(), "delegation")


def test_another_kind_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    base = delegating("escalate_flagged = false")
    band = with_kind(base, "band")
    assert parse(band.toml) == band
    assert (band.route.delegation, band.route.escalate_flagged) == (None, True)


bools = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.floats(0, 1)), min_size=1)


@settings(max_examples=50)
@given(bools)
def test_the_curves_start_with_stage_1_end_with_both_and_nobody_beats_the_oracle_at_its_best(rows) -> None:
    alone, both, unsafe, forced = (np.array([row[i] for row in rows]) for i in range(4))
    worth = np.array([row[4] for row in rows])
    stakes = Stakes(alone, both, unsafe, forced)
    curves = [stakes.f1_over(worth), stakes.random_f1(), stakes.f1_over(stakes.oracle())]
    for curve in curves:
        assert curve[0] == pytest.approx(f1(alone, unsafe))
        assert curve[-1] == pytest.approx(f1(both, unsafe))
        assert len(curve) == len(rows) + 1
    free = Stakes(alone, both, unsafe, np.zeros(len(rows), dtype=bool))
    assert free.f1_over(free.oracle()).max() >= free.f1_over(worth).max() - 1e-12
    assert free.routing_f1_over(free.oracle()).max() in (0.0, 1.0), "1 unless there is nothing to mend"


def f1(decided: np.ndarray, unsafe: np.ndarray) -> float:
    return 2 * float((decided & unsafe).sum()) / max(1, decided.sum() + unsafe.sum())


def test_a_curve_counted_by_hand() -> None:
    # Row 0 is missed by stage 1 and found by stage 2, row 1 the other way round, row 2 is a false alarm of both.
    alone, both = np.array([False, True, True]), np.array([True, False, True])
    stakes = Stakes(alone, both, np.array([True, True, False]), np.array([False, False, True]))
    assert stakes.gain.tolist() == [1, -1, 0]
    assert stakes.order(np.array([0.2, 0.9, 0.1])).tolist() == [2, 1, 0], "what is forced comes first"
    assert stakes.f1_over(np.array([0.9, 0.2, 0.1])) == pytest.approx([0.5, 0.5, 0.8, 0.5])
    assert stakes.routing_f1_over(np.array([0.9, 0.2, 0.1])) == pytest.approx([0, 0, 1, 2 / 3]), "of those left to it"


def test_a_label_that_tells_what_stage_2_mends_gets_a_margin() -> None:
    """Stage 1's verdict is wrong where it is torn about the category, whatever the verdict's own score."""
    rng = np.random.default_rng(0)
    rows = []
    for row in scored(600, seed=3):
        torn = rng.random() < 0.2
        stage1 = 0.01 if torn else row.stage1
        category = 0.5 if torn else 0.001
        stage2 = 0.999 if torn or row.unsafe else 0.001
        rows.append(replace(row, unsafe=torn or row.unsafe, stage1=stage1, stage2=stage2, triggers=(),
                            stage1_labels={"violence": category, "hate": 0.001}))  # fmt: skip
    widths = margins_of(rows, with_kind(policy(), "margin"))
    assert widths["violence"] > 0
    assert "hate" not in widths
    near = closeness(label_logits(rows), {UNSAFE: 0.0}, widths)
    assert near[[row.stage1_labels["violence"] == 0.5 for row in rows]].min() == 1.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
@settings(max_examples=30)
def test_over_arrays_margins_are_those_of_the_router(probabilities: list[tuple[float, float]]) -> None:
    base = fake_policy(MARGIN)
    row = scored(1, seed=0)[0]
    rows = [replace(row, stage1=p, stage1_labels={"violence": v}) for p, v in probabilities]
    boundary = np.log(base.stage1.unsafe_threshold / (1 - base.stage1.unsafe_threshold))
    found = closeness(label_logits(rows), {UNSAFE: boundary}, base.route.margins)
    assert found == pytest.approx(sample(rows, base, 0).worth)


FAKES = {"stage1": "fake-tinysafe@r1", "stage2": "fake-hazard@r1"}
TUNE = ["tune", "log.jsonl", "--from-log", "--out", "tuned/p.toml", "--max-escalation", "0.5"]


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("kind", ["margin", "delegation"])
def test_the_command_tunes_the_kind_that_is_asked_for(kind: str, cascade: Any, tmp_path: Path) -> None:  # noqa: F811
    write_log(tmp_path / "log.jsonl", scored(400, seed=2), FAKES)
    (tmp_path / "base").mkdir()
    (tmp_path / "base/p.toml").write_text(fake_network().toml)
    more = ["--router", "margin"] if kind == "margin" else ["--policy", "base/p.toml"]
    done = cascade(*TUNE, *more)
    assert done.code == 0, done.err
    tuned = load(tmp_path / "tuned/p.toml")
    assert tuned.route.kind == kind
    assert tuned.certificate is not None
    assert (tuned.route.delegation is not None) == (kind == "delegation")


def fake_network() -> Policy:
    """A policy with a network that names the fake models as those that it was fitted on."""
    models = {}
    for name, stage in (("stage1", FakeStage()), ("stage2", FakeStage("hazard"))):
        models[name] = CertifiedModel(
            name=stage.info.name, revision="r1", files=fingerprint(stage.info.files),
            calibration=calibration_digest(stage.calibration),
        )  # fmt: skip
    file = random_network(
        features=["unsafe", "illegal_activity", "tokens"], mean=[0.0] * 3, scale=[1.0] * 3, hidden=[[1.0, 0.5, 0.0]],
        hidden_bias=[0.0], output=[[-1.0], [0.0], [1.0]], **models,
    )  # fmt: skip
    return parse('schema = 1\nname = "base"\n' + route_table(file))


@pytest.mark.usefixtures("fakes")
def test_the_command_refuses_a_network_of_other_models(cascade: Any, tmp_path: Path) -> None:  # noqa: F811
    write_log(tmp_path / "log.jsonl", scored(40, seed=2), FAKES)
    (tmp_path / "p.toml").write_text(delegating().toml)
    done = cascade(*TUNE, "--policy", "p.toml")
    assert done.code == 1
    assert "route.delegation.stage1 is m@r, which is not the model that is loaded" in done.err


@pytest.mark.usefixtures("fakes")
def test_the_command_says_that_a_policy_has_no_network(cascade: Any, tmp_path: Path) -> None:  # noqa: F811
    write_log(tmp_path / "log.jsonl", scored(40, seed=2), FAKES)
    done = cascade(*TUNE, "--router", "delegation")
    assert done.code == 1
    assert "has no network" in done.err
    assert not (tmp_path / "tuned/p.toml").exists()
