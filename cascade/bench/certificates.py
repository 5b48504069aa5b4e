"""Whether certificates hold on real scores: *scored rows, wishes* -> policies of many draws -> promises that broke.

The rows stand for all texts that there are, so that every share among them is known without an error. Each draw takes
some of them at random, with replacement, tunes a policy on these as ``cascade tune`` does, and looks up whether its
promises hold for all. A promise may be broken in at most delta of the draws, and so may all together; a draw that gets
no policy breaks none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from cascade.bench.sample import OnRow
from cascade.errors import PolicyError
from cascade.evaluate.rows import DataError
from cascade.policy import Policy
from cascade.policy.binomial import log_tail, upper_limit
from cascade.policy.certificate import CertifiedModel
from cascade.policy.model import Models
from cascade.tune.fit import Request, Tuned, fit
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.sample import Sample, sample, worths
from cascade.tune.scores import ScoredRow, read_header, read_log
from cascade.tune.wishes import Wish
from stages.manifest import file_hash

CONFIDENCE = 0.95
ALWAYS = 2.0  # a rate above every draw of an audit


@dataclass(frozen=True)
class Scores:
    """Rows of a file of scores, its SHA-256, the models that gave them, and by which rule windows were pooled."""

    rows: list[ScoredRow]
    data: str
    models: Mapping[str, CertifiedModel]
    segments: str


def read(path: Path) -> Scores:
    """Reads ``OUT.scores.jsonl`` of a ``cascade tune``.

    Raises:
        DataError: it is another file, or damaged.
    """
    header = read_header(path)
    try:
        named = {} if header is None else {name: model.rpartition("@") for name, model in header["models"].items()}
        models = {
            name: CertifiedModel(
                name=model, revision=revision, files=header["files"][name], calibration=header["calibrations"][name]
            )
            for name, (model, _, revision) in named.items()
            if header is not None
        }
        segments = "" if header is None else str(header["segments"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path.name}: its first line does not say what was scored by which models") from error
    if models.keys() != {"stage1", "stage2"}:
        raise DataError(f"{path.name}: no scores of two stages: give it OUT.scores.jsonl, as `cascade tune` leaves it")
    loaded = {name: f"{model.name}@{model.revision}" for name, model in models.items()}
    return Scores(read_log(path, loaded), file_hash(path), models, segments)


def unbound(policy: Policy, scores: Scores) -> Policy:
    """The policy to start from, free of what an earlier one was fitted on or certified for.

    Raises:
        PolicyError: its network was fitted on other models.
        DataError: the scores were pooled in another way than the policy's.
    """
    network = policy.route.delegation
    if network is not None and {"stage1": network.stage1, "stage2": network.stage2} != dict(scores.models):
        raise PolicyError(["route.delegation was not fitted on the models of these scores"])
    if policy.merge.segments != scores.segments:
        raise DataError(f"merge.segments is {policy.merge.segments}, but these scores were pooled by {scores.segments}")
    return policy.model_copy(update={"models": Models(), "certificate": None, "reference": None})


def measure(
    scores: Scores,
    wishes: Sequence[Wish],
    base: Policy,
    *,
    delta: float,
    draws: int,
    rows: int,
    seed: int = 0,
    on_draw: OnRow = lambda: None,
) -> dict[str, Any]:
    """How often each promise is broken.

    Args:
        scores: what stands for all texts.
        wishes: what every draw is to promise.
        base: a policy by :func:`unbound`, of which all stays that is not tuned.
        delta: as for ``cascade tune``.
        draws: how many.
        rows: of each draw.
        seed: of the draws.
        on_draw: called after each.

    Raises:
        DataError: no draw can carry the wishes; the message is that of the last one.
    """
    truth, rng = sample(scores.rows, base, seed=0), np.random.default_rng(seed)
    found: list[list[float]] = []
    unfit, last = 0, ""
    for draw in range(draws):
        chosen = [scores.rows[number] for number in rng.integers(0, len(scores.rows), rows).tolist()]
        try:
            tuned = fit(chosen, Request(tuple(wishes), delta, base, "drawn", scores.data, scores.models, draw))
        except DataError as error:
            unfit, last = unfit + 1, str(error)
        else:
            if tuned.policy is not None:
                found.append(_shares(tuned, scores.rows, truth, wishes))
        on_draw()
    if unfit == draws:
        raise DataError(f"in none of the draws of {rows} rows: {last}")
    shares = np.array(found).reshape(-1, len(wishes))
    broken = shares > [wish.limit for wish in wishes]
    return {
        "sha256": scores.data,
        "models": {name: f"{model.name}@{model.revision}" for name, model in scores.models.items()},
        "texts": len(scores.rows),
        "policy": base.revision,
        "delta": delta,
        "draws": draws,
        "rows": rows,
        "seed": seed,
        "certified": len(found),
        "too_few_rows": unfit,
        "promises": {
            wish.name: {
                "wish": wish.limit,
                "mean": float(shares[:, number].mean()) if found else None,
                "largest": float(shares[:, number].max()) if found else None,
                **_share(int(broken[:, number].sum()), draws, delta),
            }
            for number, wish in enumerate(wishes)
        },
        "any": _share(int(broken.any(axis=1).sum()), draws, delta),
    }


def _shares(tuned: Tuned, rows: Sequence[ScoredRow], truth: Sample, wishes: Sequence[Wish]) -> list[float]:
    """The share that each wish limits, among all texts; what is audited by chance counts by its chance."""
    assert tuned.policy is not None, "asked of policies only"
    if tuned.policy.route.kind != "band":  # the margins are new ones in each draw
        truth = replace(truth, worth=worths(rows, tuned.policy))
    rules = Rules.of(tuned.policy)
    never, always = (outcomes(truth, replace(rules, audit_rate=rate)) for rate in (0.0, ALWAYS))
    found = []
    for wish in wishes:
        about = truth.of(wish)
        passed, audited = (float(done.failures(wish)[about].mean()) for done in (never, always))
        found.append((1 - rules.audit_rate) * passed + rules.audit_rate * audited)
    return found


def _share(broken: int, draws: int, delta: float) -> dict[str, float | int]:
    """How often, with the interval of the share, and how likely so many are where delta is just kept."""
    tail = (1 - CONFIDENCE) / 2
    return {
        "broken": broken,
        "share": broken / draws,
        "low": 1 - upper_limit(draws - broken, draws, tail),
        "high": upper_limit(broken, draws, tail),
        "p_value": 1.0 if broken == 0 else 1 - exp(log_tail(broken - 1, draws, delta)),
    }
