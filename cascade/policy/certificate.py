"""The certificate of a policy: what was promised of it, on which rows, for which models, by which test.

``cascade tune`` writes it. It holds for the rules that it was written for and for the models that scored the rows:
:class:`~cascade.policy.model.Policy` refuses it beside other rules, :func:`cascade.policy.check_models` beside other
models.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from cascade.policy.table import Digest, Probability, Table
from stages.taxonomy import HAZARD_INDEX

Count = Annotated[int, Field(ge=0)]
Open = Annotated[float, Field(gt=0, lt=1)]


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
    n: Annotated[int, Field(gt=0)]
    bound: Probability
    p_value: Probability


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
    delta: Open
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
