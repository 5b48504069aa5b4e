"""What the rows were like on which a policy was fitted: the measure by which a server tells that its traffic drifts."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cascade.policy.table import Probability, Table


class Deciles(Table):
    """The values that a tenth, two tenths, ... of the scores do not exceed."""

    p10: Probability
    p20: Probability
    p30: Probability
    p40: Probability
    p50: Probability
    p60: Probability
    p70: Probability
    p80: Probability
    p90: Probability

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.values()) != sorted(set(self.values())):
            raise ValueError("the deciles do not rise from p10 to p90")
        return self

    def values(self) -> tuple[float, ...]:
        """All nine, from the lowest on."""
        return tuple(getattr(self, name) for name in type(self).model_fields)


class Reference(Table):
    """The policy's table ``[reference]``: it decides nothing, but metrics tell how far the traffic is from it.

    Attributes:
        rows: how many there were.
        escalated: share of them that the policy escalates.
        stage1: deciles of stage 1's calibrated probability that they are unsafe.
    """

    rows: Annotated[int, Field(gt=0)]
    escalated: Probability
    stage1: Deciles


def reference(stage1: NDArray[np.float64], escalated: NDArray[np.bool_]) -> Reference:
    """The reference of rows that are like the traffic to come.

    Args:
        stage1: stage 1's calibrated probability of each row, as a ``Check`` reports it.
        escalated: whether the policy escalates it.

    Raises:
        ValueError: so many scores are the same that there are no deciles.
    """
    quantiles = np.quantile(stage1, np.arange(1, 10) / 10)
    deciles = {name: float(f"{value:.6g}") for name, value in zip(Deciles.model_fields, quantiles, strict=True)}
    share = round(float(np.mean(escalated)), 5)
    return Reference(rows=len(stage1), escalated=share, stage1=Deciles(**deciles))
