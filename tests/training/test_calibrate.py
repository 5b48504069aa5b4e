"""Calibrators must rise, and must find what made the data."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from training.calibrate import expected_calibration_error, fit_platt


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
