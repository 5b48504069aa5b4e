"""From rows and wishes to a policy and its certificate, or to what stands in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cascade.errors import PolicyError
from cascade.evaluate.rows import DataError
from cascade.policy import Policy, calibration_digest, check_models, diff, fingerprint, parse
from cascade.policy.certificate import CertifiedModel
from cascade.tune.certify import certify, promises
from cascade.tune.fit import Request, Tuned, fit
from cascade.tune.nearest import needs
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.sample import halves, sample
from cascade.tune.scores import ScoredRow
from cascade.tune.search import Candidates, middle, middle_of_best
from cascade.tune.wishes import Wish
from stages.stage import Calibration, Platt
from tests.tune.samples import MODELS, policy, request, scored

ESCALATION, MISSED, FALSE = Wish("escalation", 0.4), Wish("missed_unsafe", 0.35), Wish("false_positive", 0.08)
PRIVACY = Wish("missed_unsafe", 0.5, "privacy")


@pytest.fixture(scope="module")
def rows() -> list[ScoredRow]:
    return scored(1600, seed=11)


@pytest.fixture(scope="module")
def asked() -> Request:
    return request(ESCALATION, MISSED, FALSE, PRIVACY, Wish("false_positive", 0.05, "privacy"))


@pytest.fixture(scope="module")
def tuned(rows: list[ScoredRow], asked: Request) -> Tuned:
    return fit(rows, asked)


def written(tuned: Tuned) -> Policy:
    assert tuned.policy is not None
    return parse(tuned.policy.toml)


def test_the_file_says_what_was_promised_and_on_what(tuned: Tuned, asked: Request) -> None:
    found = written(tuned).certificate
    assert found is not None
    assert (found.delta, found.data, found.rows, found.tuned_on, found.certified_on) == (0.1, "4" * 64, 1600, 800, 800)
    assert (found.stage1, found.stage2) == (MODELS["stage1"], MODELS["stage2"])
    assert written(tuned).models.stage2 == MODELS["stage2"].files
    assert found.escalation is not None
    assert found.missed_unsafe is not None
    assert found.hazards["privacy"].false_positive is not None
    assert found.escalation.n == 800
    assert found.missed_unsafe.n + tuned.certified.harmless.sum() == 800
    for promise in (
        found.escalation,
        found.missed_unsafe,
        found.false_positive,
        found.hazards["privacy"].missed_unsafe,
    ):
        assert promise is not None
        assert promise.empirical == promise.failures / promise.n
        assert promise.empirical < promise.bound <= promise.wish
        assert promise.p_value <= 0.1


def test_the_promises_are_those_of_the_policy_in_the_file(tuned: Tuned, asked: Request) -> None:
    rules = Rules.of(written(tuned))
    assert promises(rules, tuned.certified, asked.wishes, asked.delta) == tuned.proof.promises


def test_only_thresholds_are_tuned(tuned: Tuned) -> None:
    apart = ("certificate.", "reference.")
    changed = {change.key for change in diff(policy(), written(tuned)) if not change.key.startswith(apart)}
    assert changed <= {
        "name", "models.stage1", "models.stage2", "route.low", "route.high", "route.max_escalation",
        "stage1.unsafe_threshold", "stage2.unsafe_threshold", "merge.controversial_threshold",
        "hazards.privacy.threshold",
    }  # fmt: skip
    assert {"route.low", "stage2.unsafe_threshold", "hazards.privacy.threshold"} <= changed


def test_the_promises_hold_on_new_rows(tuned: Tuned, asked: Request) -> None:
    new = sample(scored(6000, seed=12), policy(), 0)
    done = outcomes(new, Rules.of(written(tuned)))
    for wish in asked.wishes:
        assert done.failures(wish)[new.of(wish)].mean() <= wish.limit


def test_the_same_rows_and_seed_give_the_same_policy(rows: list[ScoredRow], asked: Request, tuned: Tuned) -> None:
    again = fit(rows, asked)
    assert again.policy == tuned.policy
    other = fit(rows, replace(asked, seed=1))
    assert other.policy is None or other.policy.revision != written(tuned).revision


def test_a_hazard_that_escalates_keeps_doing_so_below_its_threshold() -> None:
    base = policy("[hazards.privacy]\nthreshold = 0.9\nescalate_at = 0.9\naction = 'BLOCK'")
    tuned = fit(scored(1600, seed=11), request(PRIVACY, policy=base))
    rule = written(tuned).hazards["privacy"]
    assert rule.escalate_at is not None
    assert rule.escalate_at <= rule.threshold < 0.9
    assert rule.action == "BLOCK"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"route": {"audit_rate": 0.2}}, "the certificate is for other rules"),
        ({"hazards": {"hate": {"threshold": 0.1}}}, "the certificate is for other rules"),
        ({"certificate": {"rules": "0" * 64}}, "the certificate is for other rules"),
        ({"certificate": {"colour": 1}}, "certificate.colour: unknown key"),
        ({"certificate": {"test": "hope"}}, "certificate.test"),
        ({"certificate": {"hazards": {"boredom": {}}}}, "boredom is no hazard"),
        ({"certificate": {"escalation": {"wish": 0.0}}}, "certificate.escalation.wish"),
    ],
)
def test_a_certificate_beside_other_rules_or_of_another_form_is_refused(
    tuned: Tuned, change: dict[str, Any], problem: str
) -> None:
    tree = written(tuned).model_dump(by_alias=True, exclude_none=True)
    with pytest.raises(ValueError, match=problem.replace("certificate.colour: unknown key", "colour")):
        Policy.model_validate(_merged(tree, change))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"wish": 0.01}, r"escalation: \d+ of 800 do not prove a share of at most 0\.01"),
        ({"wish": 0.39}, "escalation: p_value is .* by the counts"),
        ({"p_value": 0.09}, "escalation: p_value is .* by the counts"),
        ({"p_value": 0.9}, "p_value is above delta"),
        ({"failures": 99, "n": 24}, "99 failures among 24 rows"),
        ({"failures": 3}, "empirical is not 3 / 800"),
        ({"empirical": 0.0}, r"empirical is not \d+ / 800"),
        ({"n": 801}, "escalation: n is above certified_on"),
        ({"n": 700}, "n is not certified_on"),
        ({"bound": 0.0}, "bound does not lie above empirical and up to wish"),
        ({"bound": 0.41}, "bound does not lie above empirical and up to wish"),
        ({"bound": 0.3999}, "bound is not the upper limit by the counts"),
        ({"failures": 10**12, "n": 10**12}, "less than or equal to 100000000"),
    ],
)
def test_a_certificate_whose_figures_were_edited_is_refused(tuned: Tuned, change: dict[str, Any], problem: str) -> None:
    tree = written(tuned).model_dump(by_alias=True, exclude_none=True)
    with pytest.raises(ValueError, match=problem):
        Policy.model_validate(_merged(tree, {"certificate": {"escalation": change}}))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"delta": 0.0001}, "missed_unsafe: p_value is above delta"),
        ({"rows": 1700}, "tuned_on and certified_on are not all rows"),
        (
            {"hazards": {"privacy": {"missed_unsafe": {"failures": 0}}}},
            r"hazards\.privacy\.missed_unsafe: empirical is",
        ),
        ({"escalation": None, "missed_unsafe": None, "false_positive": None, "hazards": None}, "nothing is promised"),
    ],
)
def test_a_certificate_that_does_not_agree_with_itself_is_refused(
    tuned: Tuned, change: dict[str, Any], problem: str
) -> None:
    tree = written(tuned).model_dump(by_alias=True, exclude_none=True)
    certificate = _merged(tree["certificate"], change)
    kept = {key: value for key, value in certificate.items() if value is not None}
    with pytest.raises(ValueError, match=problem):
        Policy.model_validate(tree | {"certificate": kept})


def test_the_policy_has_what_a_server_compares_its_traffic_with(tuned: Tuned, rows: list[ScoredRow]) -> None:
    found = written(tuned).reference
    assert found is not None
    assert found.rows == len(rows)
    assert found.stage1.p50 == pytest.approx(np.median([row.stage1 for row in rows]), rel=1e-4)
    done = outcomes(sample(rows, policy(), 0), Rules.of(written(tuned)))
    assert found.escalated == pytest.approx(done.escalated.mean(), abs=1e-5)


def test_of_scores_that_are_all_the_same_there_is_no_reference() -> None:
    same = [replace(row, stage1=0.9 if row.unsafe else 0.01) for row in scored(400, 3)]
    assert written(fit(same, request(Wish("escalation", 0.6)))).reference is None


def test_a_threshold_lies_in_the_middle_of_those_that_the_rows_cannot_tell_apart() -> None:
    """Harmless rows end at 0.001, unsafe ones begin at 0.5: where a text in between belongs the rows do not say."""
    rows = [
        replace(row, stage1=p, stage2=p, stage1_labels={}, triggers=())
        for number, row in enumerate(scored(1000, 3, unsafe=0.5))
        for p in [0.5 + number / 1e4 if row.unsafe else (number + 1) / 1e6]
    ]
    found = written(fit(rows, request(Wish("escalation", 0.7), MISSED, FALSE)))
    assert found.route.low == pytest.approx(0.031, abs=0.005)
    assert found.stage1.unsafe_threshold == pytest.approx(0.031, abs=0.005)
    # Of what is not escalated the merged score decides nothing: any threshold does from the lowest score to 0.5.
    assert 0.0005 < found.stage2.unsafe_threshold < 0.05


def test_of_equal_thresholds_that_in_the_middle_is_taken() -> None:
    thresholds, scores = np.array([0.0013, 0.02, 0.1, 0.377, 0.5]), np.array([0.001, 0.0011, 0.39, 0.6])
    between = middle(0.0013, 0.377, scores)
    assert between == pytest.approx(0.0258, abs=1e-4), "in logits, between 0.0011 and 0.39"
    assert middle_of_best(thresholds, np.array([0.9, 0.9, 0.9, 0.9, 0.8]), scores) == between
    assert middle_of_best(thresholds, np.array([0.9, 0.8, 0.9, 0.9, 0.8]), np.array([0.0012, 0.0014])) == 0.001296
    assert middle(0.1234567, 0.1234567, np.array([0.1234566, 0.1234567])) == 0.1234567, "there is no room for rounding"
    chosen = Candidates(
        bands=(Rules.of(policy()),) * 2,
        band=np.repeat([0, 1], 5),
        threshold=np.tile(thresholds, 2),
        log_p=np.full(10, -9.0),
        quality=np.tile([0.7, 0.9, 0.9, 0.9, 0.9], 2),
        failures=np.tile([[3], [2], [2], [2], [1]], (2, 1)),
        scores=np.array([0.015, 0.4]),
    )
    assert [rules.unsafe_threshold for rules in chosen.chain()] == [middle(0.02, 0.377, chosen.scores)]


def test_another_name_needs_no_new_certificate(tuned: Tuned) -> None:
    renamed = parse(written(tuned).toml.replace('name = "tuned"', 'name = "other"'))
    assert renamed.certificate == written(tuned).certificate


def test_a_certificate_for_other_models_is_refused(rows: list[ScoredRow]) -> None:
    files = {"stage1": {"model.onnx": "a" * 64}, "stage2": {"model.onnx": "b" * 64}}
    calibration = calibration_digest(Calibration())
    models = {
        name: CertifiedModel(name=name, revision="1", files=fingerprint(hashes), calibration=calibration)
        for name, hashes in files.items()
    }
    found = fit(rows, request(ESCALATION, models=models)).policy
    assert found is not None
    found = parse(found.toml)
    calibrations = dict.fromkeys(files, calibration)
    check_models(found, files, calibrations)
    check_models(found, files)
    with pytest.raises(PolicyError, match=r"certificate\.stage2 is stage2@1, which is not the model that is loaded"):
        check_models(found, files | {"stage2": {"model.onnx": "c" * 64}}, calibrations)
    other = calibration_digest(Calibration(Platt(2.0, 0.0)))
    with pytest.raises(PolicyError, match=r"certificate\.stage1 is the model that is loaded, but with another cal"):
        check_models(found, files, calibrations | {"stage1": other})
    with pytest.raises(PolicyError, match=r"certificate\.stage2 .* no such stage is loaded"):
        check_models(found, {"stage1": files["stage1"]}, calibrations)


def test_what_cannot_be_proven_is_not_written_and_the_nearest_points_are_told(rows: list[ScoredRow]) -> None:
    asked = request(Wish("escalation", 0.1), Wish("missed_unsafe", 0.1), Wish("false_positive", 0.02))
    tuned = fit(rows, asked)
    assert tuned.policy is None
    assert {need.wish for need in tuned.needs} <= {wish.name for wish in asked.wishes}
    assert tuned.needs
    assert {point.relaxed for point in tuned.points} >= {""}
    for point in tuned.points:
        assert any(point.limits[wish.name] > wish.limit for wish in asked.wishes)
        assert all(point.limits[wish.name] >= wish.limit for wish in asked.wishes)


def test_a_nearest_point_can_be_promised_on_new_rows(rows: list[ScoredRow]) -> None:
    asked = request(Wish("escalation", 0.1), Wish("missed_unsafe", 0.3))
    points = [point for point in fit(rows, asked).points if point.relaxed]
    assert [point.relaxed for point in points]
    for point in points:
        # A little more room than the point itself, which is as tight as the rows that it came from.
        wishes = [replace(wish, limit=min(0.99, point.limits[wish.name] * 1.2)) for wish in asked.wishes]
        assert fit(scored(3000, seed=13), request(*wishes)).policy is not None


def test_the_rows_that_a_promise_would_take_are_enough() -> None:
    """The share is below the wish, but too few rows show it; about as many as are told do."""
    everything, wish = sample(scored(8000, seed=21), policy(), 0), Wish("missed_unsafe", 0.2)
    rules = replace(Rules.of(policy()), low=0.5)
    part = everything.at(np.arange(150))
    proof = certify([rules], part, (wish,), 0.05)
    assert proof.rules is None
    (need,) = needs(proof.promises, (wish,), 0.05)
    assert (need.there, need.share) == (proof.promises[0].n, proof.promises[0].empirical)
    assert need.share < wish.limit
    assert need.needed is not None
    assert need.needed > need.there
    unsafe = np.flatnonzero(everything.unsafe)
    assert certify([rules], everything.at(unsafe[: 2 * need.needed]), (wish,), 0.05).rules is rules
    (hopeless,) = needs(proof.promises, (replace(wish, limit=0.05),), 0.05)
    assert hopeless.needed is None


@pytest.mark.parametrize(
    ("rows", "wishes", "message"),
    [
        (
            scored(200, 1, unsafe=1.0),
            (MISSED, ESCALATION),
            r"needs unsafe and safe rows, but of these all are unsafe; there are 200 rows, and at delta 0\.05 the "
            r"promises need at least 14 unsafe texts for missed_unsafe 0\.35, 12 texts for escalation 0\.4",
        ),
        (
            [replace(row, unsafe=number == 1) for number, row in enumerate(scored(40, 1))],
            (Wish("missed_unsafe", 0.99),),
            r"needs at least 1 unsafe texts .* about 2 in all; (the other half has none|there are 0, 1 in all)",
        ),
        (scored(200, 1, unsafe=0.0), (FALSE,), "all are safe"),
        ([replace(row, unsafe=None) for row in scored(50, 1)], (ESCALATION,), "none is labelled"),
        (
            scored(200, 1),
            (Wish("missed_unsafe", 0.02),),
            r"missed_unsafe 0\.02 at delta 0\.05 needs at least 149 unsafe texts in the half that certifies, about "
            r"298 in all; there are \d+",
        ),
        ([replace(row, labels=()) for row in scored(400, 1)], (PRIVACY,), "0 in all"),
        (
            [*scored(400, 1), replace(scored(1, 1)[0], labels=("privcy",))],
            (PRIVACY,),
            "a wish for a hazard needs labels .* unknown: 'privcy'",
        ),
    ],
)
def test_rows_that_cannot_carry_the_wishes(rows: list[ScoredRow], wishes: tuple[Wish, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(rows, request(*wishes, delta=0.05))


def test_other_labels_matter_only_where_a_hazard_is_wished_for(rows: list[ScoredRow]) -> None:
    labelled = [replace(row, labels=("homonyms", "human_annotation=True")) for row in rows]
    assert fit(labelled, request(ESCALATION)).policy is not None


def test_halves_are_disjoint_random_and_whole() -> None:
    everything = sample(scored(101, 1), policy(), 0)
    numbered = replace(everything, tokens=np.arange(101.0))
    first, second = halves(numbered, 5)
    assert (len(first), len(second)) == (50, 51)
    assert sorted([*first.tokens, *second.tokens]) == list(range(101))
    assert first.tokens.tolist() != halves(numbered, 6)[0].tokens.tolist()


def test_the_sequence_ends_with_the_first_candidate_that_fails() -> None:
    everything = sample(scored(2000, seed=3), policy(), 0)
    chain = [replace(Rules.of(policy()), low=low) for low in (0.9, 0.5, 0.01, 0.6)]
    proof = certify(chain, everything, (Wish("escalation", 0.5),), 0.05)
    assert proof.tested == 3
    assert proof.rules is chain[1]
    none = certify(chain[2:], everything, (Wish("escalation", 0.5),), 0.05)
    assert (none.tested, none.rules) == (1, None)
    assert none.promises[0].p_value > 0.05


def _merged(tree: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return tree | {
        key: _merged(tree.get(key, {}), value) if isinstance(value, dict) else value for key, value in change.items()
    }
