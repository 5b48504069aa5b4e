import numpy as np
import pytest
from sklearn import metrics as sk

from cascade.evaluate.hazards import score_hazards, true_hazard
from cascade.evaluate.metrics import (
    MAX_FPR,
    MIN_RECALL,
    Estimate,
    bootstrap,
    decision_metrics,
    ranking_metrics,
    selective_metrics,
)
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS


def sample(rows: int, seed: int, *, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores that lean towards them; few decimals make many ties."""
    rng = np.random.default_rng(seed)
    positive = rng.random(rows) < 0.3
    return positive, np.round(np.clip(rng.normal(0.4 + 0.2 * positive, 0.2), 0, 1), decimals)


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed: int, decimals: int) -> None:
    positive, scores = sample(211, seed, decimals=decimals)
    decided = scores >= 0.5
    metrics = decision_metrics(positive, decided) | ranking_metrics(positive, scores)
    found = bootstrap(metrics, 211, seed=0, resamples=10)
    negatives_called = sk.recall_score(~positive, ~decided)
    fpr, recall, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    expected = {
        "precision": sk.precision_score(positive, decided),
        "recall": sk.recall_score(positive, decided),
        "f1": sk.f1_score(positive, decided),
        "fpr": 1 - negatives_called,
        "auroc": sk.roc_auc_score(positive, scores),
        "auprc": sk.average_precision_score(positive, scores),
        "recall_at_fpr": recall[fpr <= MAX_FPR].max(),
        "fpr_at_recall": fpr[recall >= MIN_RECALL].min(),
    }
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(expected, abs=1e-12)


def test_aurc_is_the_mean_risk_of_the_surest_rows_and_counts_repeated_rows() -> None:
    rng = np.random.default_rng(4)
    wrong, sure, times = rng.random(40) < 0.3, rng.random(40), rng.integers(0, 3, 40)
    ranked = wrong[np.argsort(-sure)]
    aurc = selective_metrics(wrong, sure)["aurc"]
    assert aurc(np.ones((1, 40)))[0] == pytest.approx(np.mean([ranked[: n + 1].mean() for n in range(40)]))
    drawn = selective_metrics(np.repeat(wrong, times), np.repeat(sure, times))["aurc"](np.ones((1, times.sum())))
    assert aurc(times[None].astype(float))[0] == pytest.approx(drawn[0], abs=0.02)  # ties of one row differ a little


def test_weights_count_like_repeated_rows() -> None:
    positive, scores = sample(50, 3, decimals=1)
    times = np.random.default_rng(1).integers(0, 4, 50)
    weighted = {name: m(times[None].astype(float))[0] for name, m in ranking_metrics(positive, scores).items()}
    repeated_positive, repeated_scores = np.repeat(positive, times), np.repeat(scores, times)
    assert weighted["auroc"] == pytest.approx(sk.roc_auc_score(repeated_positive, repeated_scores))
    assert weighted["auprc"] == pytest.approx(sk.average_precision_score(repeated_positive, repeated_scores))


def test_intervals_hold_the_value_shrink_with_rows_and_depend_on_the_seed_alone() -> None:
    widths = []
    for rows in (100, 1600):
        positive, scores = sample(rows, 7, decimals=9)
        metrics = ranking_metrics(positive, scores)
        first = bootstrap(metrics, rows, seed=5)["auroc"]
        assert first == bootstrap(metrics, rows, seed=5)["auroc"]
        assert first != bootstrap(metrics, rows, seed=6)["auroc"]
        assert first.low < first.value < first.high
        widths.append(first.high - first.low)
    assert 2.5 < widths[0] / widths[1] < 6  # about the square root of 16


def test_interval_of_a_share_is_the_binomial_one() -> None:
    positive = np.ones(400, bool)
    decided = np.arange(400) < 300
    recall = bootstrap(decision_metrics(positive, decided), 400, seed=0)["recall"]
    assert recall.value == 0.75
    spread = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert recall.low == pytest.approx(0.75 - spread, abs=0.006)
    assert recall.high == pytest.approx(0.75 + spread, abs=0.006)


def test_undefined_is_none_and_never_zero() -> None:
    nothing = Estimate(None, None, None)
    safe_only = np.zeros(20, bool)
    decided = np.arange(20) < 5
    metrics = decision_metrics(safe_only, decided) | ranking_metrics(safe_only, np.linspace(0, 1, 20))
    found = bootstrap(metrics, 20, seed=0, resamples=50)
    assert found["fpr"].value == 0.25
    assert found["precision"].value == 0.0
    assert found["recall"] == found["f1"] == found["auroc"] == found["auprc"] == nothing
    unsafe_only = bootstrap(ranking_metrics(~safe_only, np.linspace(0, 1, 20)), 20, seed=0, resamples=50)
    assert set(unsafe_only.values()) == {nothing}
    assert bootstrap(decision_metrics(safe_only[:0], decided[:0]), 0, seed=0)["fpr"] == nothing


def test_no_alarm_at_all_has_recall_and_f1_of_zero() -> None:
    positive = np.arange(20) < 5
    found = bootstrap(decision_metrics(positive, np.zeros(20, bool)), 20, seed=0, resamples=50)
    assert found["precision"].value is None
    assert found["recall"].value == found["f1"].value == 0.0


def test_true_hazard_reads_ailuminate_labels_only() -> None:
    assert true_hazard(["vcr", "skilled"]) == "violent_crimes"
    assert true_hazard(["spc_fin"]) == true_hazard(["spc_hlt"]) == "specialized_advice"
    assert true_hazard(["spc_ele", "unskilled"]) == "elections"
    assert true_hazard(["hate"]) is None  # another set's word for a topic
    assert true_hazard(["vcr", "ncr"]) is None
    assert true_hazard([]) is None


def test_hazards_against_scikit_learn_with_elections_apart() -> None:
    rng = np.random.default_rng(2)
    slugs = [*HAZARD_SLUGS[:6], "elections"]
    truth = [slugs[i] for i in rng.integers(0, len(slugs), 400)]
    probabilities = rng.random((400, 14))
    for row, slug in enumerate(truth):
        probabilities[row, HAZARD_INDEX[slug]] += 0.4
    report = score_hazards(truth, probabilities, seed=0, resamples=100)
    named = [HAZARD_SLUGS[i] for i in probabilities.argmax(axis=1)]
    kept = [i for i, slug in enumerate(truth) if slug != "elections"]
    expected = sk.f1_score([truth[i] for i in kept], [named[i] for i in kept], labels=HAZARD_SLUGS[:6], average=None)
    assert [hazard.f1.value for hazard in report.hazards] == pytest.approx(list(expected))
    assert report.macro_f1.value == pytest.approx(expected.mean())
    assert report.macro_f1.low < report.macro_f1.value < report.macro_f1.high
    assert report.rows == len(kept) == sum(hazard.rows for hazard in report.hazards)
    assert report.left_out is not None
    assert report.left_out.rows == 400 - len(kept)
    assert report.left_out.f1.value == pytest.approx(sk.f1_score(truth, named, labels=["elections"], average="macro"))


def test_a_hazard_that_no_stage_scores_is_never_named() -> None:
    probabilities = np.full((2, 14), np.nan)
    probabilities[:, HAZARD_INDEX["hate"]] = 0.01
    report = score_hazards(["hate", "privacy"], probabilities, seed=0, resamples=10)
    assert {hazard.slug: hazard.recall.value for hazard in report.hazards} == {"privacy": 0.0, "hate": 1.0}
    assert report.left_out is None
