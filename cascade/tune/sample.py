"""Scored rows -> arrays: what the search and the test count over. Random halves, labels as truth, checks of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascade.evaluate.rows import DataError
from cascade.merging.stages import merge
from cascade.policy.binomial import least_rows
from cascade.policy.model import Policy
from cascade.policy.routers import worth_of
from cascade.routing.escalation import near
from cascade.routing.router import Signals
from cascade.routing.triggers import UNREAD
from cascade.tune.scores import ScoredRow
from cascade.tune.wishes import Wish
from stages.taxonomy import ATTACKS, ATTRIBUTES, HAZARD_INDEX, HAZARDS, SLUG_OF_AILUMINATE, SLUG_OF_CODE
from stages.taxonomy import TINYSAFE_CATEGORIES as CATEGORIES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SLUG_OF = {slug: slug for slug in HAZARD_INDEX} | SLUG_OF_AILUMINATE | SLUG_OF_CODE
# Labels that say something true but name none of the hazards.
OTHER = {*CATEGORIES, *ATTRIBUTES, *ATTACKS, "benign", "safe", "unsafe", "none"}
_EDGE = 1e-15  # a probability this near to 0 or 1 has no logit that could be told from infinity


class Labelled(Protocol):
    """A row by its labels alone, scored or not."""

    @property
    def unsafe(self) -> bool | None:
        """Whether it is unsafe; None where there is no honest label."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What else is said of it, hazards among it."""


@dataclass(frozen=True)
class Sample:
    """Rows as arrays of one entry a row; ``carries``, ``near``, ``hazards`` and ``of_stage1`` have shape (rows, 14).

    Attributes:
        unsafe: the row is labelled unsafe; ``harmless``: labelled safe. Neither: there is no honest label.
        carries: the row is labelled with that hazard.
        stage1: calibrated probability of stage 1; ``stage2`` of stage 2; ``merged`` of both under the policy's rule.
        near: the largest probability of stage 1's labels near to that hazard; -1 where there is none.
        hazards: probability of that hazard when both stages answer, ``of_stage1`` when stage 1 alone does; -1: unknown.
        worth: what the policy's kind of router thinks of asking stage 2, 0 to 1; of a band it is ``stage1``.
        triggered: a trigger fired.
        unread: one that says that stage 1 may not know what the text says.
        audit: drawn evenly from [0, 1); the row is audited where it is below the policy's rate.
        tokens: length in tokens of stage 1; ``lang``: the language as the row says it.
    """

    unsafe: Bools
    harmless: Bools
    carries: Bools
    stage1: Floats
    stage2: Floats
    merged: Floats
    near: Floats
    hazards: Floats
    of_stage1: Floats
    worth: Floats
    triggered: Bools
    unread: Bools
    audit: Floats
    tokens: Floats
    lang: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.stage1)

    def at(self, indices: NDArray[np.int_]) -> Sample:
        """Some of the rows."""
        return Sample(*(getattr(self, field.name)[indices] for field in fields(self)))

    def of(self, wish: Wish) -> Bools:
        """The rows that a wish speaks of."""
        if wish.kind == "escalation":
            return np.ones(len(self), dtype=bool)
        if wish.kind == "false_positive":
            return self.harmless
        return self.carries[:, HAZARD_INDEX[wish.hazard]] if wish.hazard else self.unsafe


def sample(rows: Sequence[ScoredRow], policy: Policy, seed: int) -> Sample:
    """Arrays of rows under a policy's merge rule and kind of router.

    The audit's draw for each row hangs on its id and the seed.

    Raises:
        DataError: the rows do not have what the router asks for.
    """
    unread = [not UNREAD.isdisjoint(row.triggers) for row in rows]
    z1, z2 = (logit(np.array([getattr(row, name) for row in rows])) for name in ("stage1", "stage2"))
    return Sample(
        unsafe=np.array([row.unsafe is True for row in rows]),
        harmless=np.array([row.unsafe is False for row in rows]),
        carries=np.array([_carries(row) for row in rows]),
        stage1=np.array([row.stage1 for row in rows]),
        stage2=np.array([row.stage2 for row in rows]),
        merged=np.array(
            [
                merge(a, b, policy.merge, unread=blind)
                for a, b, blind in zip(z1.tolist(), z2.tolist(), unread, strict=True)
            ]
        ),
        near=np.array([[max(row.stage1_labels.get(name, -1.0) for name in near(h)) for h in HAZARDS] for row in rows]),
        hazards=np.array([[row.hazards.get(h.slug, -1.0) for h in HAZARDS] for row in rows]),
        of_stage1=np.array([[row.stage1_hazards.get(h.slug, -1.0) for h in HAZARDS] for row in rows]),
        worth=worths(rows, policy),
        triggered=np.array([bool(row.triggers) for row in rows]),
        unread=np.array(unread),
        audit=np.array([_draw(f"{seed}\0{number}\0{row.id}") for number, row in enumerate(rows)]),
        tokens=np.array([row.tokens for row in rows], dtype=np.float64),
        lang=np.array([row.lang for row in rows], dtype=np.str_),
    )


def logit(p: Floats) -> Floats:
    """Log-odds, kept finite."""
    clipped = np.clip(p, _EDGE, 1 - _EDGE)
    return np.log(clipped) - np.log1p(-clipped)


def worths(rows: Sequence[ScoredRow], policy: Policy) -> Floats:
    """What the policy's kind of router thinks of each row.

    Raises:
        DataError: a row has no score of a label that the router asks for.
    """
    worth = worth_of(policy)
    try:
        return np.array([worth(Signals(row.stage1, row.stage1_labels, tokens=row.tokens)) for row in rows])
    except KeyError as error:
        raise DataError(f"the router asks for stage 1's label {error}, of which a row has no score") from error


def halves(rows: Sample, seed: int) -> tuple[Sample, Sample]:
    """Two halves at random: one to search on, one to test on."""
    first, second = halves_of(len(rows), seed)
    return rows.at(first), rows.at(second)


def halves_of(count: int, seed: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """The numbers of the rows in each half."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def check_rows(rows: Sequence[Labelled], wishes: Sequence[Wish], delta: float, seed: int, chosen: str = "") -> None:
    """Checks that the labels can carry the wishes, on the halves that the seed draws; no score is asked for.

    ``chosen`` says how the rows were chosen from more of them, if they were.

    Raises:
        DataError: one class only, a wish for a hazard beside labels that no taxonomy here knows, or too few rows for a
            test without a single failure to prove each wish; the message says how many would do.
    """
    _check_classes(rows, wishes, delta, chosen)
    if any(wish.hazard for wish in wishes):
        _check_hazards(rows)
    first, second = halves_of(len(rows), seed)
    lines = []
    for wish in wishes:
        about = np.array([_speaks_of(wish, row) for row in rows])
        there, least = int(about[second].sum()), least_rows(wish.limit, delta)
        if there < least or not about[first].any():
            where = f"there are {there}, {int(about.sum())} in all" if there < least else "the other half has none"
            lines.append(
                f"{wish.name} {wish.limit:g} at delta {delta:g} needs at least {least} {wish.of} in the half that "
                f"certifies, about {2 * least} in all; {where}"
            )
    if lines:
        raise DataError("too few rows: " + "; ".join([*lines, *filter(None, [chosen])]))


def _check_classes(rows: Sequence[Labelled], wishes: Sequence[Wish], delta: float, chosen: str) -> None:
    classes = {row.unsafe for row in rows} - {None}
    if len(classes) == 2:
        return
    found = "none is labelled" if not classes else f"all are {'unsafe' if True in classes else 'safe'}"
    least = [f"{2 * least_rows(wish.limit, delta)} {wish.of} for {wish.name} {wish.limit:g}" for wish in wishes]
    needed = f"there are {len(rows)} rows, and at delta {delta:g} the promises need at least {', '.join(least)}"
    raise DataError(
        "; ".join(filter(None, [f"tuning needs unsafe and safe rows, but of these {found}", needed, chosen]))
    )


def _check_hazards(rows: Sequence[Labelled]) -> None:
    """A label that is a misspelt hazard would silently shrink the group that the promise speaks of."""
    labels = {label for row in rows for label in row.labels if "=" not in label}
    unknown = sorted(labels - SLUG_OF.keys() - OTHER)
    if unknown:
        raise DataError(
            f"a wish for a hazard needs labels that name hazards (slugs, S1 to S14 or AILuminate's); "
            f"unknown: {', '.join(map(repr, unknown[:5]))}{' and others' if len(unknown) > 5 else ''}"
        )


def _speaks_of(wish: Wish, row: Labelled) -> bool:
    """Whether a wish speaks of a row; :meth:`Sample.of` says the same of all."""
    if wish.kind == "escalation":
        return True
    if wish.kind == "false_positive":
        return row.unsafe is False
    return _carries(row)[HAZARD_INDEX[wish.hazard]] if wish.hazard else row.unsafe is True


def _carries(row: Labelled) -> list[bool]:
    named = {SLUG_OF[label] for label in row.labels if label in SLUG_OF} if row.unsafe is not False else set()
    return [hazard.slug in named for hazard in HAZARDS]


def _draw(what: str) -> float:
    return int.from_bytes(blake2b(what.encode("utf-8", "surrogatepass"), digest_size=8).digest()) / 2**64
