"""Scored rows and wishes -> a certified policy, or what stands in its way. The one function behind ``cascade tune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.policy import Policy, parse
from cascade.policy.certificate import Certificate, CertifiedModel, HazardPromises, Promise
from cascade.policy.model import HazardRule, Models
from cascade.policy.reference import reference
from cascade.tune.certify import Proof, certify
from cascade.tune.nearest import Need, Point, nearest, needs
from cascade.tune.outcomes import NEVER, Rules, escalated
from cascade.tune.routing import margins_of
from cascade.tune.sample import Sample, check_rows, halves, halves_of, sample
from cascade.tune.scores import ScoredRow
from cascade.tune.search import DIGITS, f1, middle_of_best, search
from cascade.tune.wishes import Wish
from stages.taxonomy import HAZARD_SLUGS

SURE_PRECISION, SURE_ROWS = 0.98, 20  # how right stage 1 has to be for stage 2 not to clear what it flags


@dataclass(frozen=True)
class Request:
    """What is to be certified: wishes, the error that may be made, and what the certificate is about.

    ``data`` is the SHA-256 of the file with the rows; ``policy`` has all that is not tuned, the kind of router among
    it; ``seed`` draws the halves.
    """

    wishes: tuple[Wish, ...]
    delta: float
    policy: Policy
    name: str
    data: str
    models: Mapping[str, CertifiedModel]
    seed: int


@dataclass(frozen=True)
class Tuned:
    """How it ended. ``policy`` is None if nothing was proven; then ``points`` and ``needs`` say what could be.

    ``rules`` are those of the policy, else those of the surest candidate; ``searched`` and ``certified`` the halves.
    """

    policy: Policy | None
    rules: Rules
    proof: Proof
    points: tuple[Point, ...]
    needs: tuple[Need, ...]
    searched: Sample
    certified: Sample


def fit(rows: Sequence[ScoredRow], request: Request) -> Tuned:
    """Searches on one half of the rows and certifies on the other.

    Raises:
        DataError: the rows cannot carry the wishes: one class only, too few rows, unknown labels.
    """
    check_rows(rows, request.wishes, request.delta, request.seed)
    request = replace(request, policy=with_boundaries(request, rows))
    everything = sample(rows, request.policy, request.seed)
    searched, certified = halves(everything, request.seed)
    candidates = search(searched, request.wishes, Rules.of(request.policy), request.delta)
    chain = candidates.chain()
    proof = certify(chain, certified, request.wishes, request.delta)
    if proof.rules is None:
        return Tuned(
            None,
            chain[0],
            proof,
            tuple(nearest(candidates, searched, request.wishes, request.delta)),
            tuple(needs(proof.promises, request.wishes, request.delta)),
            searched,
            certified,
        )
    policy = with_reference(with_rules(request.policy, proof.rules, searched, request), everything, proof.rules)
    sizes = (len(everything), len(searched), len(certified))
    policy = with_certificate(policy, proof, request, sizes)
    return Tuned(policy, proof.rules, proof, (), (), searched, certified)


def with_boundaries(request: Request, rows: Sequence[ScoredRow]) -> Policy:
    """The policy with what its kind of router needs before its bar can be searched; found on the half that is searched.

    A band needs nothing. The other kinds flag at stage 1's own threshold, that with the best F1 of stage 1 alone. The
    margins are fitted anew.
    """
    policy = request.policy
    if policy.route.kind == "band":
        return policy
    first = [rows[index] for index in halves_of(len(rows), request.seed)[0].tolist()]
    threshold1 = best_f1(sample(first, policy, request.seed))
    route = policy.route.model_copy(update={"high": max(policy.route.high, threshold1)})
    stage1 = policy.stage1.model_copy(update={"unsafe_threshold": threshold1})
    policy = policy.model_copy(update={"stage1": stage1, "route": route})
    if route.kind == "margin":
        policy = policy.model_copy(update={"route": route.model_copy(update={"margins": margins_of(first, policy)})})
    return policy


def with_rules(policy: Policy, rules: Rules, searched: Sample, request: Request) -> Policy:
    """The policy with tuned numbers. Those that no promise hangs on are chosen on the searching half.

    They are stage 1's own threshold (the best F1 of stage 1 alone, not below the band), ``route.high`` (from where on
    stage 1 is right nearly always) and the threshold of what is controversial, which keeps its proportion.
    """
    route = policy.route
    threshold1 = max(rules.low, best_f1(searched)) if route.kind == "band" else rules.flags
    high = max(threshold1, _sure(searched, threshold1))
    proportion = policy.merge.controversial_threshold / max(policy.stage2.unsafe_threshold, 10**-DIGITS)
    controversial = min(round(rules.unsafe_threshold * proportion, DIGITS), rules.unsafe_threshold)
    hazards = {
        slug: HazardRule(
            threshold=float(rules.thresholds[index]),
            escalate_at=None if rules.escalate_at[index] == NEVER else float(rules.escalate_at[index]),
            action=policy.hazards[slug].action,
        )
        for index, slug in enumerate(HAZARD_SLUGS)
    }
    bound = next((wish.limit for wish in request.wishes if wish.kind == "escalation"), policy.route.max_escalation)
    return policy.model_copy(
        update={
            "name": request.name,
            "stage1": policy.stage1.model_copy(update={"unsafe_threshold": threshold1}),
            "stage2": policy.stage2.model_copy(update={"unsafe_threshold": rules.unsafe_threshold}),
            "route": route.model_copy(
                update={"low" if route.kind == "band" else "at": rules.low, "high": high, "max_escalation": bound}
            ),
            "merge": policy.merge.model_copy(update={"controversial_threshold": controversial}),
            "hazards": hazards,
            "models": Models(stage1=request.models["stage1"].files, stage2=request.models["stage2"].files),
            "certificate": None,
        }
    )


def with_reference(policy: Policy, rows: Sample, rules: Rules) -> Policy:
    """The policy with what a server compares its traffic with: all rows, for they are like the texts to come.

    Without it where so many scores are the same that there are no deciles: drift cannot be measured then.
    """
    try:
        found = reference(rows.stage1, escalated(rows, rules))
    except ValueError:
        found = None
    return policy.model_copy(update={"reference": found})


def with_certificate(policy: Policy, proof: Proof, request: Request, sizes: tuple[int, int, int]) -> Policy:
    """The policy with the table that says what was proven of it, read back as any policy file is."""
    overall: dict[str, Promise] = {}
    of_hazards: dict[str, dict[str, Promise]] = {}
    for wish, promise in zip(request.wishes, proof.promises, strict=True):
        (of_hazards.setdefault(wish.hazard, {}) if wish.hazard else overall)[wish.kind] = promise
    certificate = Certificate(
        method="learn-then-test",
        sequence="fixed-sequence",
        test="binomial-tail",
        delta=request.delta,
        tested=proof.tested,
        rules=policy.rules_digest,
        data=request.data,
        rows=sizes[0],
        tuned_on=sizes[1],
        certified_on=sizes[2],
        seed=request.seed,
        hazards={slug: HazardPromises.model_validate(found) for slug, found in sorted(of_hazards.items())},
        stage1=request.models["stage1"],
        stage2=request.models["stage2"],
        **overall,
    )
    return parse(policy.model_copy(update={"certificate": certificate}).toml)


def best_f1(rows: Sample) -> float:
    """The threshold at which stage 1 alone has the best F1; of several the middle."""
    cuts = np.unique(np.round(np.quantile(rows.stage1, np.linspace(0, 1, 200)), DIGITS))
    hits = np.array([(rows.stage1[rows.unsafe] >= cut).sum() for cut in cuts])
    alarms = np.array([(rows.stage1[rows.harmless] >= cut).sum() for cut in cuts])
    return middle_of_best(cuts, f1(hits, alarms, int(rows.unsafe.sum())), rows.stage1)


def _sure(rows: Sample, floor: float) -> float:
    """The lowest score from the floor on above which stage 1 is right with a precision of 0.98; 1 if there is none."""
    known = rows.unsafe | rows.harmless
    scores, unsafe = rows.stage1[known], rows.unsafe[known]
    for threshold in np.unique(np.append(np.round(scores[scores >= floor], DIGITS), floor)):
        above = unsafe[scores >= threshold]
        if len(above) < SURE_ROWS:
            break
        if above.mean() >= SURE_PRECISION:
            return float(threshold)
    return 1.0
