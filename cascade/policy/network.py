"""The network of a "delegation" router as a table of the policy: *numbers, hashes* -> checked -> what judges.

A few hundred numbers stand in the policy itself, so that a policy stays one text wherever it goes: in a file, over the
network, among the kept revisions, to another worker. It names the models that it was fitted on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from cascade.policy.certificate import CertifiedModel, Count
from cascade.policy.table import Digest, Table
from cascade.policy.toml import to_toml
from cascade.routing.delegation import TOKENS, Delegation
from cascade.routing.margin import UNSAFE
from stages.taxonomy import ATTACKS, ATTRIBUTES, HAZARD_SLUGS, TINYSAFE_CATEGORIES

LABELS = frozenset({UNSAFE, *TINYSAFE_CATEGORIES, *HAZARD_SLUGS, *ATTRIBUTES, *ATTACKS})  # that a stage 1 may score
MOST_UNITS = 64  # beyond it a router would cost more than it is worth

Positive = Annotated[float, Field(gt=0)]
Vector = list[float]


class Network(Table):
    """The policy's table ``[route.delegation]``; the shapes are those of :class:`Delegation`.

    Attributes:
        sha256: of the other keys, by :func:`digest`: a number that was changed or lost is noticed.
        rows: how many it was fitted on, of texts that neither model trained on.
        stage1: the model that it reads; ``stage2``: the model whose verdicts it foresees.
    """

    sha256: Digest
    rows: Count
    features: Annotated[list[str], Field(min_length=1)]
    mean: Vector
    scale: list[Positive]
    hidden: list[Vector]
    hidden_bias: Annotated[Vector, Field(max_length=MOST_UNITS)]
    output: list[Vector]
    output_bias: Annotated[Vector, Field(min_length=3, max_length=3)]
    stage1: CertifiedModel
    stage2: CertifiedModel

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wide, units = len(self.features), len(self.hidden_bias)
        unknown = sorted(set(self.features) - LABELS - {TOKENS})
        if unknown:
            raise ValueError(f"unknown features: {', '.join(unknown)}")
        if len(set(self.features)) < wide:
            raise ValueError("a feature is named twice")
        rows = [self.mean, self.scale, *self.hidden]
        if any(len(row) != wide for row in rows) or len(self.hidden) != units:
            raise ValueError("the hidden layer does not fit the features")
        if len(self.output) != 3 or any(len(row) != units for row in self.output):
            raise ValueError("the output layer does not fit the hidden one")
        if digest(self.model_dump()) != self.sha256:
            raise ValueError("it is not the network that was fitted: its SHA-256 differs")
        return self

    def judge(self) -> Delegation:
        """The numbers as what judges."""
        numbers = ("mean", "scale", "hidden", "hidden_bias", "output", "output_bias")
        return Delegation(tuple(self.features), *(np.array(getattr(self, name), dtype=np.float64) for name in numbers))


def digest(table: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical TOML of a network's table without the key ``sha256``."""
    return hashlib.sha256(to_toml({key: table[key] for key in table if key != "sha256"}).encode()).hexdigest()


def network(**table: Any) -> Network:
    """A network with its hash; the keys are those of :class:`Network` without ``sha256``.

    Raises:
        ValidationError: the numbers do not fit together.
    """
    whole = Network.model_construct(sha256="", **table)
    return Network.model_validate({**whole.model_dump(), "sha256": digest(whole.model_dump())})
