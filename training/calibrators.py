"""Fits of strictly increasing calibrators - temperature, Platt, isotonic - and the choice between them.

The choice falls on the one with the least negative log likelihood on folds that it was not fitted on; where two are as
good as each other, on the simpler one. The one chosen is then fitted on all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar  # type: ignore[import-untyped]
from sklearn.isotonic import isotonic_regression  # type: ignore[import-untyped]

from cascade.evaluate.calibration import brier_score, expected_calibration_error, log_loss
from stages.encoder import calibrator
from stages.manifest import Scale

Array = NDArray[np.float64]
Fit = Callable[[Array, Array, Array], Scale]

IDENTITY = Scale(slope=1.0, bias=0.0)
MIN_OF_A_CLASS = 8
MIN_SLOPE = 0.05
FOLDS = 5
AS_GOOD = 1e-3  # nats; a difference of this size is luck on the few thousand rows of a calibration split
_MIN_RISE = 1e-3  # of a calibrated logit for each logit, where the data alone would have it stand still


@dataclass(frozen=True)
class Chosen:
    """A calibrator, what it is called, and the cross-validated negative log likelihood of each that was tried."""

    scale: Scale
    method: str
    losses: dict[str, float]


def fit_temperature(logits: Array, targets: Array, weights: Array) -> Scale:
    """One number: ``sigmoid(logit / T)`` by weighted likelihood, as Guo et al. (2017), T from 0.05 to 20."""
    bounds = (np.log(MIN_SLOPE), -np.log(MIN_SLOPE))
    best = minimize_scalar(lambda s: log_loss(np.exp(s) * logits, targets, weights), bounds=bounds, method="bounded")
    return Scale(slope=float(np.exp(best.x)), bias=0.0)


def fit_platt(logits: Array, targets: Array, weights: Array) -> Scale:
    """Platt's sigmoid with his smoothed targets, by weighted likelihood; the slope is kept above 0.05."""
    positives, negatives = (targets == 1).sum(), (targets == 0).sum()
    if min(positives, negatives) < MIN_OF_A_CLASS:
        return IDENTITY
    smooth = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: Array) -> float:
        return log_loss(np.exp(parameters[0]) * logits + parameters[1], smooth, weights)

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 2000})
    return Scale(slope=max(MIN_SLOPE, float(np.exp(best.x[0]))), bias=float(best.x[1]))


def fit_isotonic(logits: Array, targets: Array, weights: Array) -> Scale:
    """Isotonic regression (pool adjacent violators) made strictly increasing, on top of Platt's fit.

    Each pool of rows is a knot at its mean logit; lines join the knots, so that no two logits share a probability. A
    pool of one class is kept as far from 0 and 1 as Platt keeps his targets.
    """
    platt = fit_platt(logits, targets, weights)
    order = np.argsort(logits, kind="stable")
    z, weight = platt.slope * logits[order] + platt.bias, weights[order]
    pooled = isotonic_regression(targets[order], sample_weight=weight)
    least, most = 1 / ((targets == 0).sum() + 2), 1 - 1 / ((targets == 1).sum() + 2)
    values, pool = np.unique(np.clip(pooled, least, most), return_inverse=True)
    masses = np.bincount(pool, weight)
    means = np.bincount(pool, weight * z) / masses
    return platt.model_copy(update={"knots": _rising(means, np.log(values / (1 - values)))})


def _rising(x: Array, y: Array) -> list[tuple[float, float]]:
    """Knots that rise strictly in both coordinates; of two that lie on one another the first is kept."""
    knots: list[tuple[float, float]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        if not knots:
            knots.append(point)
        elif point[0] - knots[-1][0] > 1e-6:
            knots.append((point[0], max(point[1], knots[-1][1] + _MIN_RISE * (point[0] - knots[-1][0]))))
    return knots


METHODS: dict[str, Fit] = {"temperature": fit_temperature, "platt": fit_platt, "isotonic": fit_isotonic}  # simple first


def calibrated_logits(scale: Scale, logits: Array) -> Array:
    """The calibrated logits of raw ones, as the stage that serves computes them."""
    served = calibrator(scale)
    return np.array([served.logit(float(logit)) for logit in logits])


def choose(logits: Array, targets: Array, weights: Array, *, folds: int = FOLDS, seed: int = 0) -> Chosen:
    """The best of :data:`METHODS` by cross-validation, fitted on all rows.

    With fewer than eight rows of a class in every fit there is nothing to choose by: the scores stay as they are.
    """
    positives, negatives = (targets == 1).sum(), (targets == 0).sum()
    if min(positives, negatives) * (folds - 1) < MIN_OF_A_CLASS * folds:
        return Chosen(fit_platt(logits, targets, weights), "platt", {})
    fold = _folds(targets, folds, seed)
    losses = {}
    for name, fit in METHODS.items():
        held = np.empty_like(logits)
        for number in range(folds):
            inside = fold == number
            held[inside] = calibrated_logits(fit(logits[~inside], targets[~inside], weights[~inside]), logits[inside])
        losses[name] = log_loss(held, targets, weights)
    best = min(losses.values())
    method = next(name for name, loss in losses.items() if loss <= best + AS_GOOD)
    return Chosen(METHODS[method](logits, targets, weights), method, losses)


def _folds(targets: Array, folds: int, seed: int) -> NDArray[np.int_]:
    """A fold for each row; each has the classes in the proportion of the whole."""
    fold = np.empty(len(targets), dtype=int)
    rng = np.random.default_rng(seed)
    for of_class in (np.flatnonzero(targets == 1), np.flatnonzero(targets != 1)):
        fold[rng.permutation(of_class)] = np.arange(len(of_class)) % folds
    return fold


def method_of(scale: Scale) -> str:
    """Which of :data:`METHODS` a calibrator is of; "none" for one that leaves the scores as they are."""
    if scale.knots:
        return "isotonic"
    if scale.bias:
        return "platt"
    return "none" if scale.slope == 1 else "temperature"


def probabilities(logits: Array) -> Array:
    """The sigmoid of logits."""
    found: Array = 1 / (1 + np.exp(-logits))
    return found


def quality(scale: Scale, logits: Array, targets: Array, weights: Array) -> dict[str, float]:
    """ECE and Brier score before and after calibration, for a manifest's figures."""
    figures = {}
    for when, z in (("before", logits), ("after", calibrated_logits(scale, logits))):
        p = probabilities(z)
        figures[f"ece_{when}"] = round(expected_calibration_error(p, targets, weights), 4)
        figures[f"brier_{when}"] = round(brier_score(p, targets, weights), 4)
    return figures
