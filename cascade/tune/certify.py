"""Tests the chain on the half that the search never saw: *chain, sample* -> the best policy that is proven, or none.

Learn then Test (Angelopoulos et al. 2021) with fixed-sequence testing. A candidate is rejected as unproven by the
largest p-value of its promises (a test of their intersection), so that delta is spent once, not once a promise; the
chain is walked in its order, which the other half fixed, and ends with the first candidate that fails, so that delta is
spent once, not once a candidate. All that were passed hold at once with probability 1 - delta; the last judges best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from cascade.policy.binomial import log_tail, upper_limit
from cascade.policy.certificate import Promise
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.sample import Sample
from cascade.tune.wishes import Wish


@dataclass(frozen=True)
class Proof:
    """How the test ended: how many candidates it took, the proven rules if any, and the promises of one candidate.

    They are those of the proven rules or, where nothing was proven, of the first candidate, the surest one.
    """

    tested: int
    rules: Rules | None
    promises: tuple[Promise, ...]


def certify(chain: Sequence[Rules], rows: Sample, wishes: Sequence[Wish], delta: float) -> Proof:
    """Walks the chain, which has at least one candidate."""
    proven: Rules | None = None
    kept: tuple[Promise, ...] = ()
    for tested, rules in enumerate(chain, 1):
        found = promises(rules, rows, wishes, delta)
        kept = kept or found
        if max(promise.p_value for promise in found) > delta:
            return Proof(tested, proven, kept)
        proven, kept = rules, found
    return Proof(len(chain), proven, kept)


def promises(rules: Rules, rows: Sample, wishes: Sequence[Wish], delta: float) -> tuple[Promise, ...]:
    """What the rows say of each wish under these rules."""
    done = outcomes(rows, rules)
    found = []
    for wish in wishes:
        about = rows.of(wish)
        n, failures = int(about.sum()), int((done.failures(wish) & about).sum())
        log_p = log_tail(failures, n, wish.limit)
        found.append(
            Promise(
                wish=wish.limit,
                empirical=failures / n,
                failures=failures,
                n=n,
                # Where the p-value is delta to the last bit, the limit found by halving may lie a bit above the wish.
                bound=min(upper_limit(failures, n, delta), wish.limit if log_p <= log(delta) else 1.0),
                p_value=exp(log_p),
            )
        )
    return tuple(found)
