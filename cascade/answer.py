"""What was found -> the contract's answer: *opinions* -> merged probability -> ruling -> *response* with evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from cascade.explaining import explanation
from cascade.merging.stages import merge
from cascade.merging.verdict import UNSAFE, Evidence, Ruling, fallback, rule
from cascade.policy.model import Policy
from cascade.routing.triggers import UNREAD
from cascade.scoring import Opinion
from cascade.v1.check_pb2 import (
    Attack,
    Attribute,
    Category,
    CheckRequest,
    CheckResponse,
    Coverage,
    Hazard,
    Route,
    Span,
    StageReport,
)
from stages.taxonomy import ATTACKS, ATTRIBUTES, HAZARDS, related_hazards, speaks_categories

MAX_SPANS = 10  # of each stage
SPAN_SHARE = 0.5  # what a window needs of the worst window's probability to be named as evidence


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known of a content when it is to be ruled on.

    ``trouble`` says which stage was wanted but failed, and why: stage 1 if there is no ``first`` opinion, else stage 2.
    Without trouble, no ``second`` opinion means that stage 2 was not wanted.
    """

    route: Route
    first: Opinion | None
    second: Opinion | None = None
    trouble: str = ""

    def judge(self) -> tuple[str, Opinion]:
        """The stage that judged last, by name, and what it says; there is one."""
        if self.second and self.second.model.judges:
            return "stage2", self.second
        assert self.first is not None
        return "stage1", self.first


def answer(request: CheckRequest, policy: Policy, findings: Findings) -> CheckResponse:
    """Rules on a content and gives the evidence."""
    first = findings.first
    labels = _labels(findings)
    hazards = _hazards(request, policy, labels, _related(findings))
    probability, ruling = _ruling(policy, findings, hazards)
    spans = [span for name, opinion in _opinions(findings) for span in _spans(name, opinion)]
    spans.sort(key=lambda span: span.score, reverse=True)
    response = CheckResponse(
        request_id=request.request_id or uuid4().hex,
        verdict=ruling.verdict,
        action=ruling.action,
        unsafe_probability=probability,
        hazards=hazards,
        categories=[
            Category(name=name, probability=probability) for name, probability in _categories(findings).items()
        ],
        attributes=[Attribute(name=name, probability=labels[name]) for name in ATTRIBUTES if name in labels],
        attacks=_attacks(policy, findings, labels),
        route=findings.route,
        stages=[_report(name, opinion) for name, opinion in _opinions(findings)],
        coverage=_coverage(first),
        spans=spans,
        merge_rule=_merge_rule(policy, findings),
        override_rule=ruling.override_rule,
        degraded=bool(findings.trouble),
        degraded_reason=findings.trouble,
        policy_revision=policy.revision,
    )
    if request.options.explain:
        response.explanation.CopyFrom(explanation(response, ruling.decided_by, policy))
    return response


def _ruling(policy: Policy, findings: Findings, hazards: list[Hazard]) -> tuple[float, Ruling]:
    """The probability that the content is unsafe, and what the policy makes of it."""
    first, second = findings.first, findings.second
    if first is None:
        ruling = fallback(policy.stage1.on_error, "stage1.on_error")
        return float(ruling.verdict == UNSAFE), ruling
    if findings.trouble and policy.stage2.on_error != "stage1_only":
        return first.probability, fallback(policy.stage2.on_error, "stage2.on_error")
    probability, threshold, key = first.probability, policy.stage1.unsafe_threshold, "stage1.unsafe_threshold"
    if second and second.model.judges:
        unread = not UNREAD.isdisjoint(findings.route.triggers)
        both = merge(first.logit, second.logit, policy.merge, unread=unread)
        probability = both if first.model.judges else second.probability
        threshold, key = policy.stage2.unsafe_threshold, "stage2.unsafe_threshold"
    flagged = {hazard.slug for hazard in hazards if hazard.flagged}
    evidence = Evidence(
        probability=probability,
        threshold=threshold,
        key=key,
        stage1_sure=first.model.judges and first.probability >= policy.route.high,
        flagged=flagged,
        elsewhere=not flagged and any(_over(hazard) for hazard in hazards),
    )
    return probability, rule(evidence, policy)


def _merge_rule(policy: Policy, findings: Findings) -> str:
    """Where the probability comes from: the rule that merged both stages, or the one stage that judged."""
    if findings.first is None:
        return ""
    stage, _ = findings.judge()
    return stage if stage == "stage1" or not findings.first.model.judges else policy.merge.rule


def _labels(findings: Findings) -> dict[str, float]:
    """What the stages say of hazards, attributes and attacks; of a label that both score, stage 2's counts.

    A stage 2 that does not judge has no class for harmless texts, so that its probabilities hold given that the text
    is unsafe: times stage 1's probability of that, they stand on the scale of all others.
    """
    first, second = findings.first, findings.second
    found: dict[str, float] = {}
    for _, opinion in _opinions(findings):
        share = first.probability if first and opinion is second and not opinion.model.judges else 1.0
        if not speaks_categories(opinion.model.taxonomy):
            found |= {label: share * probability for label, probability in opinion.labels.items()}
    return found


def _categories(findings: Findings) -> dict[str, float]:
    """What the stages say of TinySafe's categories, two of which share their names with hazards."""
    found: dict[str, float] = {}
    for _, opinion in _opinions(findings):
        found |= opinion.labels if speaks_categories(opinion.model.taxonomy) else {}
    return found


def _attacks(policy: Policy, findings: Findings, labels: Mapping[str, float]) -> list[Attack]:
    """The attacks that a stage scores; a policy has no thresholds of their own, so that stage's own counts."""
    thresholds = {"stage1": policy.stage1.unsafe_threshold, "stage2": policy.stage2.unsafe_threshold}
    scored_by = {label: name for name, opinion in _opinions(findings) for label in opinion.labels}
    return [
        Attack(name=name, probability=labels[name], flagged=labels[name] >= thresholds[scored_by[name]])
        for name in ATTACKS
        if name in labels
    ]


def _related(findings: Findings) -> dict[str, tuple[str, ...]]:
    """By hazard what the class of the stage that scores it takes in as well."""
    found: dict[str, tuple[str, ...]] = {}
    for _, opinion in _opinions(findings):
        related = related_hazards(opinion.model.taxonomy)
        if not speaks_categories(opinion.model.taxonomy):
            found |= {label: related.get(label, ()) for label in opinion.labels}
    return found


def _hazards(
    request: CheckRequest, policy: Policy, labels: Mapping[str, float], related: Mapping[str, Sequence[str]]
) -> list[Hazard]:
    """All hazards; flagged are those over their thresholds that the request asks about.

    A hazard that is only related to a scored one is told there, and stays unknown itself.
    """
    asked = set(request.options.hazards)
    found = []
    for known in HAZARDS:
        hazard = Hazard(slug=known.slug, code=known.code, threshold=policy.hazards[known.slug].threshold)
        if known.slug in labels:
            hazard.probability = labels[known.slug]
            if also := related[known.slug]:
                hazard.related.extend(slug for slug in also if slug not in labels)
        hazard.flagged = _over(hazard) and (not asked or known.slug in asked)
        found.append(hazard)
    return found


def _over(hazard: Hazard) -> bool:
    return hazard.HasField("probability") and hazard.probability >= hazard.threshold


def _opinions(findings: Findings) -> Iterator[tuple[str, Opinion]]:
    if findings.first:
        yield "stage1", findings.first
    if findings.second:
        yield "stage2", findings.second


def _report(name: str, opinion: Opinion) -> StageReport:
    return StageReport(
        name=name,
        model=opinion.model.name,
        revision=opinion.model.revision,
        device=opinion.model.device,
        unsafe_probability=opinion.uncalibrated,
        calibrated_probability=opinion.probability,
        tokenize_ms=opinion.tokenize_ms,
        queue_ms=opinion.queue_ms,
        infer_ms=opinion.infer_ms,
        scoring=opinion.scoring,
    )


def _coverage(first: Opinion | None) -> Coverage:
    """Stage 1 reads everything or, where it failed, nothing."""
    if first is None:
        return Coverage(truncated=True)
    return Coverage(tokens_total=first.tokens, tokens_scored=first.tokens, segments=first.segments)


def _spans(name: str, opinion: Opinion) -> list[Span]:
    """The windows that carry a stage's score; a place that several views show counts once, with its worst score."""
    worst: dict[tuple[str, int, int], float] = {}
    for passage in opinion.passages:
        place = (passage.field, passage.start, passage.end)
        worst[place] = max(worst.get(place, 0.0), passage.probability)
    enough = SPAN_SHARE * max(worst.values(), default=0.0)
    ranked = sorted(worst.items(), key=lambda item: item[1], reverse=True)[:MAX_SPANS]
    return [
        Span(field=field, start=start, end=end, stage=name, score=score)
        for (field, start, end), score in ranked
        if score >= enough
    ]
