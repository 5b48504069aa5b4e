"""Small networks of delegation routers, as tables of a policy."""

from __future__ import annotations

from typing import Any

import numpy as np

from cascade.policy.certificate import CertifiedModel
from cascade.policy.network import Network, network
from cascade.policy.toml import to_toml

FEATURES = ["unsafe", "violence", "sexual", "tokens"]
MODEL = CertifiedModel(name="m", revision="r", files="1" * 64, calibration="2" * 64)


def random_network(seed: int = 0, units: int = 6, **changes: Any) -> Network:
    """A network with weights drawn by chance."""
    rng = np.random.default_rng(seed)
    given = {
        "rows": 100,
        "features": FEATURES,
        "mean": [-2.0, -4.0, -4.0, 5.0],
        "scale": [2.0, 2.0, 2.0, 1.5],
        "hidden": rng.normal(size=(units, 4)).tolist(),
        "hidden_bias": rng.normal(size=units).tolist(),
        "output": rng.normal(size=(3, units)).tolist(),
        "output_bias": rng.normal(size=3).tolist(),
        "stage1": MODEL,
        "stage2": MODEL,
    }
    return network(**(given | changes))


def mends(**weights: float) -> Network:
    """A network of one unit, which is surer of stage 2 the larger the weighted sum of the features is."""
    hidden = [[weights.get(name, 0.0) for name in FEATURES]]
    return random_network(
        mean=[0.0] * 4, scale=[1.0] * 4, hidden=hidden, hidden_bias=[0.0],
        output=[[-4.0], [0.0], [4.0]], output_bias=[0.0, 0.0, 0.0],
    )  # fmt: skip


def route_table(found: Network, more: str = "") -> str:
    """The tables of a policy that has this network."""
    return f'[route]\nkind = "delegation"\naudit_rate = 0.0\n{more}\n' + to_toml(
        {"route": {"delegation": found.model_dump()}}
    )
