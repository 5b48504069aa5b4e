"""Calibrators must rise, and must find what made the data."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cascade.evaluate.calibration import brier_score, expected_calibration_error, log_loss, reliability
from stages.encoder import calibrator
from stages.manifest import CalibrationNumbers, Scale
from training.calibrators import calibrated_logits, choose, fit_isotonic, fit_platt, fit_temperature, quality


def sample(slope, bias, n=6000, seed=3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    return logits, (rng.random(n) < 1 / (1 + np.exp(-(slope * logits + bias)))).astype(float)


def test_platt_agrees_with_logistic_regression():
    logits, targets = sample(2.0, -1.0)
    scale = fit_platt(logits, targets, np.ones_like(logits))
    other = LogisticRegression(C=1e6).fit(logits[:, None], targets)
    assert scale.slope == pytest.approx(other.coef_[0, 0], rel=0.02)
    assert scale.bias == pytest.approx(other.intercept_[0], abs=0.03)


def test_a_score_that_ranks_backwards_still_gets_a_rising_calibrator():
    logits, targets = sample(-1.0, 0.0)
    assert fit_platt(logits, targets, np.ones_like(logits)).slope > 0


def test_too_few_of_a_class_leave_the_score_as_it_is():
    scale = fit_platt(np.arange(20.0), np.zeros(20), np.ones(20))
    assert (scale.slope, scale.bias) == (1.0, 0.0)


def test_calibration_error():
    logits, targets = sample(1.0, 0.0)
    good = 1 / (1 + np.exp(-logits))
    weights = np.ones_like(logits)
    assert expected_calibration_error(good, targets, weights) < 0.03
    assert expected_calibration_error(good**3, targets, weights) > 0.1


def stretched(n=6000, seed=5):
    """Logits whose log-odds are a step: no sigmoid fits them."""
    rng = np.random.default_rng(seed)
    logits = rng.uniform(-4, 4, n)
    p = np.where(logits < -1, 0.05, np.where(logits < 2, 0.3, 0.95))
    return logits, (rng.random(n) < p).astype(float)


def test_a_temperature_is_found():
    logits, targets = sample(0.5, 0.0)
    scale = fit_temperature(logits, targets, np.ones_like(logits))
    assert (scale.bias, scale.knots) == (0.0, [])
    assert scale.slope == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(("slope", "bias", "method"), [(0.5, 0.0, "temperature"), (0.7, -1.5, "platt")])
def test_the_simplest_that_fits_is_chosen(slope, bias, method):
    logits, targets = sample(slope, bias)
    assert choose(logits, targets, np.ones_like(logits)).method == method


def test_isotonic_is_chosen_where_no_sigmoid_fits_and_calibrates():
    logits, targets = stretched()
    weights = np.ones_like(logits)
    chosen = choose(logits, targets, weights)
    assert chosen.method == "isotonic"
    assert chosen.losses["isotonic"] < chosen.losses["platt"] - 0.005
    new_logits, new_targets = stretched(seed=6)
    figures = quality(chosen.scale, new_logits, new_targets, weights)
    assert figures["ece_after"] < 0.03 < figures["ece_before"]
    assert figures["brier_after"] < figures["brier_before"]


@pytest.mark.parametrize("sign", [1, -1], ids=["rising", "backwards"])
def test_isotonic_rises_strictly_inside_and_outside_of_its_knots(sign):
    logits, targets = stretched()
    served = calibrator(fit_isotonic(sign * logits, targets, np.ones_like(logits)))
    grid = np.linspace(-12, 12, 4001)
    calibrated = np.array([served.logit(float(z)) for z in grid])
    assert (np.diff(calibrated) > 0).all()
    assert served(0.3) == pytest.approx(1 / (1 + np.exp(-served.logit(0.3))))


def test_weights_count():
    logits, targets = sample(1.0, 0.0)
    weights = np.where(targets == 1, 3.0, 1.0)
    assert fit_platt(logits, targets, weights).bias == pytest.approx(np.log(3), abs=0.1)
    p = calibrated_logits(fit_isotonic(logits, targets, weights), np.array([0.0]))
    assert p[0] == pytest.approx(np.log(3), abs=0.5)


def test_brier_score_log_loss_and_bins():
    p, targets = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    assert brier_score(p, targets) == pytest.approx((0.01 + 0.64 + 0.04 + 0.01) / 4)
    assert log_loss(np.log(p / (1 - p)), targets) == pytest.approx(-np.log([0.9, 0.2, 0.8, 0.9]).mean())
    low, high = reliability(p, targets, bins=2)
    assert (low.predicted, low.observed, high.predicted, high.observed) == pytest.approx((0.15, 0.5, 0.85, 1.0))


def test_a_manifest_holds_either_kind_and_old_ones_still_load():
    old = CalibrationNumbers.model_validate_json('{"unsafe": {"slope": 2, "bias": -1}, "labels": []}')
    assert calibrator(old.unsafe).logit(1.0) == 1.0
    new = CalibrationNumbers(unsafe=Scale(slope=1, bias=0, knots=[(-1.0, -2.0), (1.0, 0.0)]), labels=[])
    read = CalibrationNumbers.model_validate_json(new.model_dump_json())
    assert read == new
    served = calibrator(read.unsafe)
    assert [served.logit(z) for z in (-3.0, -1.0, 0.0, 1.0, 5.0)] == [-4.0, -2.0, -1.0, 0.0, 4.0]
    with pytest.raises(ValueError, match="2 length penalties for 0 labels"):
        CalibrationNumbers(unsafe=Scale(slope=1, bias=0), labels=[], label_length_penalties=[0.1, 0.2])
    with pytest.raises(ValueError, match="rise strictly"):
        Scale(slope=1, bias=0, knots=[(0.0, 1.0), (1.0, 1.0)])
