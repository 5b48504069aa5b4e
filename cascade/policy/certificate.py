"""The certificate of a policy: what was promised of it, on which rows, for which models, by which test.

``cascade tune`` writes it. It holds for the rules that it was written for and for the models that scored the rows:
:class:`~cascade.policy.model.Policy` refuses it beside other rules, :func:`cascade.policy.check_models` beside other
models. Its figures are worked out again from the counts: one that does not prove what it says is no certificate.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, isclose, log
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from cascade.policy.binomial import log_tail
from cascade.policy.table import Digest, Probability, Table
from stages.taxonomy import HAZARD_INDEX

Count = Annotated[int, Field(ge=0, le=100_000_000)]  # beyond it nobody could check the figures in no time
Open = Annotated[float, Field(gt=0, lt=1)]
NEAR = 1e-5  # how near a figure must be to the same one worked out here, relative; logarithms absolute


class Promise(Table):
    """One promise: a share of texts is at most ``wish``, unless the draw of rows was one of the ``delta`` bad ones.

    Attributes:
        wish: what was asked for, and what is certified.
        empirical: the share among the rows of the certification half that the promise speaks of.
        failures: how many of them that is.
        n: how many rows the promise speaks of: all of the half, its unsafe rows, its harmless ones.
        bound: upper confidence limit of the share, at the level 1 - delta, for this policy taken alone (Clopper and
            Pearson 1934); never above ``wish``.
        p_value: of the hypothesis that the share is above ``wish``; at most ``delta``.
    """

    wish: Open
    empirical: Probability
    failures: Count
    n: Annotated[Count, Field(gt=0)]
    bound: Probability
    p_value: Probability

    def faults(self, delta: float) -> Iterator[str]:
        """What keeps the figures from proving the wish at a level of delta."""
        if self.failures > self.n:
            yield f"{self.failures} failures among {self.n} rows"
            return
        share = self.failures / self.n
        if not isclose(self.empirical, share, rel_tol=NEAR):
            yield f"empirical is not {self.failures} / {self.n}"
        if share >= self.wish:
            yield f"{self.failures} of {self.n} do not prove a share of at most {self.wish:g}"
            return
        p_value = exp(log_tail(self.failures, self.n, self.wish))
        if not isclose(self.p_value, p_value, rel_tol=NEAR, abs_tol=1e-300):
            yield f"p_value is {p_value:.3g} by the counts"
        if p_value > delta * (1 + NEAR) or self.p_value > delta:
            yield f"p_value is above delta: {self.failures} of {self.n} do not prove a share of at most {self.wish:g}"
        if not share < self.bound <= self.wish:
            yield "bound does not lie above empirical and up to wish"
        elif abs(log_tail(self.failures, self.n, self.bound) - log(delta)) > NEAR:
            yield "bound is not the upper limit by the counts"


class HazardPromises(Table):
    """The promises on one hazard: carriers that it is not flagged on, harmless texts that it is flagged on."""

    missed_unsafe: Promise | None = None
    false_positive: Promise | None = None


class CertifiedModel(Table):
    """A model that scored the rows: its files by :func:`cascade.policy.fingerprint`, and its calibration's digest."""

    name: str
    revision: str
    files: Digest
    calibration: Digest


class Certificate(Table):
    """All promises of a policy. With a probability of 1 - ``delta`` or more over the draw of the rows all hold at once.

    The rows are taken to be a random sample of the texts that the promises are about. What happens while a stage fails
    (``on_error``) is not part of the promises.

    Attributes:
        method: Angelopoulos et al. (2021), "Learn then Test".
        sequence: how the test of many policies keeps to ``delta``: they are ordered on the other half of the rows.
        test: the p-value of each promise, exact for shares of independent rows.
        tested: how many policies were tested before the sequence ended.
        rules: digest of everything else that the policy says.
        data: SHA-256 of the file with the rows.
        rows: how many it has, ``tuned_on`` of them for the search and ``certified_on`` for the test; by ``seed``.
    """

    method: Literal["learn-then-test"]
    sequence: Literal["fixed-sequence"]
    test: Literal["binomial-tail"]
    delta: Annotated[float, Field(gt=0, le=0.5)]
    tested: Annotated[int, Field(gt=0)]
    rules: Digest
    data: Digest
    rows: Count
    tuned_on: Count
    certified_on: Count
    seed: int
    escalation: Promise | None = None
    missed_unsafe: Promise | None = None
    false_positive: Promise | None = None
    hazards: dict[str, HazardPromises] = Field(default={})
    stage1: CertifiedModel
    stage2: CertifiedModel

    @field_validator("hazards")
    @classmethod
    def _known(cls, promises: dict[str, HazardPromises]) -> dict[str, HazardPromises]:
        unknown = [f"{slug} is no hazard that a stage knows" for slug in promises if slug not in HAZARD_INDEX]
        if unknown:
            raise ValueError("\n".join(unknown))
        return promises

    @model_validator(mode="after")
    def _proves_what_it_says(self) -> Self:
        promises = dict(self.promises())
        problems = [f"{name}: {fault}" for name, promise in promises.items() for fault in promise.faults(self.delta)]
        problems += [
            f"{name}: n is above certified_on" for name, promise in promises.items() if promise.n > self.certified_on
        ]
        if not promises:
            problems.append("nothing is promised")
        if self.tuned_on + self.certified_on != self.rows:
            problems.append("tuned_on and certified_on are not all rows")
        if self.escalation is not None and self.escalation.n != self.certified_on:
            problems.append("escalation: n is not certified_on, although it speaks of every row")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def promises(self) -> Iterator[tuple[str, Promise]]:
        """All promises by their keys."""
        tables = {"": self, **{f"hazards.{slug}.": found for slug, found in self.hazards.items()}}
        for path, table in tables.items():
            for kind in ("escalation", "missed_unsafe", "false_positive"):
                promise = getattr(table, kind, None)
                if promise is not None:
                    yield path + kind, promise
