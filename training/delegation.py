"""Fits the network of a delegation router: *stage 1's features, what stage 2 did to the verdict* -> weights.

The rows where stage 2 changes a verdict are few. So the network is small, held back by an L2 penalty, and the mean of
several that started from other weights; side by side they are one network with one hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]

from cascade.routing.delegation import REACH, TOKENS, Delegation, features
from cascade.routing.router import Signals
from cascade.tune.routing import Stakes, label_logits
from cascade.tune.sample import Floats, Sample, logit
from cascade.tune.scores import ScoredRow

UNITS, NETS = 8, 3
PENALTY = 1e-4  # of the squared weights, beside a mean loss
SOFTNESS = 1.0  # logits over which a verdict turns, for the targets
STEPS = 150
OUTCOMES = 3  # spoils, leaves, mends


def feature_names(rows: Sequence[ScoredRow]) -> tuple[str, ...]:
    """What stage 1 says of every row: its verdict, its labels, its length."""
    return (*label_logits(rows), TOKENS)


def feature_matrix(rows: Sequence[ScoredRow], names: Sequence[str]) -> Floats:
    """Shape (rows, features), as the router computes them."""
    return np.array([features(Signals(r.stage1, r.stage1_labels, tokens=r.tokens), names) for r in rows])


def weights(stakes: Stakes) -> Floats:
    """What a verdict weighs: errors that cost F1 the same weigh the same; rows that are escalated anyhow nothing.

    At an F1 of F, a miss costs (1 - F / 2) where a false alarm costs F / 2: Parambath et al. (2014), "Optimizing
    F-measures by cost-sensitive classification". The sum is 1.
    """
    best = stakes.f1_over(stakes.oracle()).max()
    found: Floats = np.where(stakes.unsafe, 1 - best / 2, best / 2) * ~stakes.forced
    total = float(found.sum())
    if total:
        found /= total
    return found


def targets(rows: Sample, threshold1: float, threshold2: float) -> Floats:
    """How far stage 2 spoils, leaves and mends each verdict, shape (rows, 3); each row sums to 1.

    Verdicts turn softly about their thresholds, so that a row says something, too, whose verdict stage 2 nearly turns:
    whole ones change on so few rows that a network learns those by heart.
    """
    alone, both = (
        1 / (1 + np.exp(-(logit(score) - logit(np.array(threshold))) / SOFTNESS))
        for score, threshold in ((rows.stage1, threshold1), (rows.merged, threshold2))
    )
    gain = np.where(rows.unsafe, both - alone, alone - both)
    found: Floats = np.stack([np.maximum(-gain, 0), 1 - np.abs(gain), np.maximum(gain, 0)], axis=1)
    return found


def fit_network(x: Floats, outcomes: Floats, weight: Floats, names: Sequence[str], seed: int) -> Delegation:
    """Fits the network.

    Args:
        x: features, shape (rows, features).
        outcomes: what stage 2 does to each verdict, as :func:`targets` gives it.
        weight: what each row weighs; rows that weigh nothing are not looked at.
        names: of the features.
        seed: of the first weights; the same seed gives the same network.
    """
    used = weight > 0
    x, outcomes, weight = x[used], outcomes[used], weight[used] / weight[used].sum()
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-3)
    standard = np.clip((x - mean) / scale, -REACH, REACH)
    nets = [_fit_one(standard, outcomes, weight, np.random.default_rng((seed, net))) for net in range(NETS)]
    hidden, hidden_bias, output, output_bias = zip(*nets, strict=True)
    return Delegation(
        features=tuple(names),
        mean=mean,
        scale=scale,
        hidden=np.concatenate(hidden),
        hidden_bias=np.concatenate(hidden_bias),
        output=np.concatenate(output, axis=1) / NETS,
        output_bias=np.mean(output_bias, axis=0),
    )


def _fit_one(x: Floats, outcomes: Floats, weight: Floats, rng: np.random.Generator) -> list[Floats]:
    """Weighted cross-entropy of the outcomes by L-BFGS."""
    wide = x.shape[1]
    shapes = [(UNITS, wide), (UNITS,), (OUTCOMES, UNITS), (OUTCOMES,)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])

    def unpacked(flat: Floats) -> list[Floats]:
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]

    def loss(flat: Floats) -> tuple[float, Floats]:
        hidden, hidden_bias, output, output_bias = unpacked(flat)
        units = np.tanh(x @ hidden.T + hidden_bias)
        logits = units @ output.T + output_bias
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        value = -float(weight @ (logs * outcomes).sum(axis=1)) + PENALTY * float((hidden**2).sum() + (output**2).sum())
        back = (np.exp(logs) - outcomes) * weight[:, None]
        inner = (back @ output) * (1 - units**2)
        slopes = [
            inner.T @ x + 2 * PENALTY * hidden,
            inner.sum(axis=0),
            back.T @ units + 2 * PENALTY * output,
            back.sum(axis=0),
        ]
        return value, np.concatenate([slope.ravel() for slope in slopes])

    start = [rng.normal(0, 1 / np.sqrt(wide), shapes[0]), rng.normal(0, 0.3, UNITS), rng.normal(0, 0.1, shapes[2])]
    flat = np.concatenate([*(part.ravel() for part in start), np.zeros(OUTCOMES)])
    return unpacked(minimize(loss, flat, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}).x)
