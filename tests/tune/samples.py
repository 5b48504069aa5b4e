"""Samples out of a known distribution, and scored rows of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from cascade.policy import Policy, parse
from cascade.policy.certificate import CertifiedModel
from cascade.tune.fit import Request
from cascade.tune.sample import Sample, sample
from cascade.tune.scores import ScoredRow
from cascade.tune.wishes import Wish

MODEL = CertifiedModel(name="m", revision="r", files="1" * 64, calibration="2" * 64)
MODELS = {"stage1": MODEL, "stage2": MODEL.model_copy(update={"files": "3" * 64})}


def policy(toml: str = "") -> Policy:
    """A policy in which both stages count the same and nothing is audited; ``toml`` is more."""
    return parse(f'schema = 1\nname = "base"\n[route]\naudit_rate = 0.0\n[merge]\nrule = "logit_mean"\n{toml}')


def scored(n: int, seed: int, *, unsafe: float = 0.3, **changes: Any) -> list[ScoredRow]:
    """Rows of which a share is unsafe; each stage's logits are normal, stage 2 tells the classes better apart.

    One unsafe row in three carries privacy; stage 2 sees it well, and sees it rarely elsewhere.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        bad = bool(rng.random() < unsafe)
        carries = bad and rng.random() < 1 / 3
        z = rng.normal(1.5 if bad else -1.5, 1.5), rng.normal(2.0 if bad else -2.0, 1.3)
        hazard = rng.normal(2.0 if carries else -3.0, 1.2)
        row = ScoredRow(
            id=f"r{number}",
            unsafe=bad,
            labels=("privacy",) if carries else (),
            lang=("en", "de")[number % 2],
            tokens=int(rng.integers(1, 400)),
            stage1=_p(z[0]),
            stage2=_p(z[1]),
            stage1_labels={"illegal_activity": _p(z[0] - 1)},
            hazards={"privacy": _p(hazard)},
            stage1_hazards={},
            triggers=("unread_script",) if rng.random() < 0.02 else (),
        )
        rows.append(row)
    return rows


def population(n: int = 8_000, seed: int = 0) -> Sample:
    """The arrays of many rows: taken as the whole truth, its shares are known without an error."""
    return sample(scored(n, seed), policy(), seed)


def request(*wishes: Wish, delta: float = 0.1, **changes: Any) -> Request:
    """What is asked of rows of :func:`scored`."""
    made = {"wishes": wishes, "delta": delta, "policy": policy(), "name": "tuned", "data": "4" * 64, "models": MODELS}
    return Request(**{**made, "seed": 0, **changes})


def _p(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))
