"""Why a verdict is what it is: *answer, opinion* -> the rule that decided, definitions, and the sentences that count.

How much a sentence counts for is found by leaving it out: the content without it is judged again, read as the whole
was, by the stage that judged last ("occlusion", Zeiler and Fergus, arXiv:1311.2901; Li et al., arXiv:1612.08220). All
of that is one batch of bounded size, whatever the length of the content: of a long one its worst window is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from cascade.content import Part
from cascade.errors import CascadeError
from cascade.policy.model import Policy
from cascade.readings import Reading
from cascade.scoring import Opinion, Passage, read
from cascade.text import sentences
from cascade.v1.check_pb2 import CheckRequest, CheckResponse, Contribution, Explanation, HazardDefinition
from stages.taxonomy import HAZARDS

MOST = 16  # parts that are left out, each in its turn
WHOLE = 512  # tokens of a content that is read whole without each of them
LEAST = 0.01  # of probability: a part that counts for less is not named

Ask = Callable[[Sequence[Reading]], Awaitable[Opinion]]
Place = tuple[str, int, int]  # field, first and last code point


def explanation(response: CheckResponse, rule: str, policy: Policy) -> Explanation:
    """The rule that decided, with what it compared, and the definitions of the flagged hazards.

    Args:
        response: the answer, all else of it filled in.
        rule: the key of the policy that decided.
        policy: the policy.
    """
    flagged = {hazard.slug for hazard in response.hazards if hazard.flagged}
    found = Explanation(
        rule=rule,
        definitions=[
            HazardDefinition(slug=hazard.slug, code=hazard.code, definition=hazard.definition)
            for hazard in HAZARDS
            if hazard.slug in flagged
        ],
    )
    compared = _compared(response, rule, policy)
    if compared is not None:
        found.probability, found.threshold = compared
    return found


def _compared(response: CheckResponse, rule: str, policy: Policy) -> tuple[float, float] | None:
    """The probability and the threshold that a rule holds against each other; None where it has no threshold."""
    if rule.startswith("hazards."):
        slug = rule.split(".")[1]
        hazard = next(hazard for hazard in response.hazards if hazard.slug == slug)
        return hazard.probability, hazard.threshold
    probability = response.unsafe_probability
    known = {
        "stage1.unsafe_threshold": (probability, policy.stage1.unsafe_threshold),
        "stage2.unsafe_threshold": (probability, policy.stage2.unsafe_threshold),
        "merge.controversial_threshold": (probability, policy.merge.controversial_threshold),
        "route.high": (response.stages[0].calibrated_probability if response.stages else 0.0, policy.route.high),
    }
    return known.get(rule)


async def contributions(
    request: CheckRequest, content: Sequence[Part], opinion: Opinion, stage: str, ask: Ask
) -> list[Contribution]:
    """The parts of a content without which a stage is calmer, the one that counts for most first.

    Args:
        request: the request.
        content: its parts.
        opinion: what the stage says of the whole, with its passages.
        stage: the stage's name.
        ask: asks the stage about readings.

    Raises:
        CascadeError: as ``ask``.
    """
    whole = opinion.probability
    if opinion.tokens > WHOLE:
        worst = max(opinion.passages, key=lambda passage: passage.probability)
        content, shift = _only(content, worst), worst.start
        whole = (await ask(await read(request, content))).probability
    else:
        shift = 0
    places = _places(content, [] if shift else opinion.passages)
    without = [kept for place in places if (kept := _without(content, place))]
    if len(without) < len(places) or len(places) < 2:  # nothing is left without it: there is nothing to compare
        return []
    asked = [asyncio.ensure_future(_ask(request, parts, ask)) for parts in without]
    try:
        calmer = await asyncio.gather(*asked)
    finally:  # of what was asked together with something that failed, nothing is waited for
        for each in asked:
            each.cancel()
    drops = [(whole - other.probability, place) for other, place in zip(calmer, places, strict=True)]
    return [
        Contribution(field=field, start=start + shift, end=end + shift, stage=stage, drop=drop)
        for drop, (field, start, end) in sorted(drops, key=lambda each: -each[0])
        if drop >= LEAST
    ]


async def explain(
    response: CheckResponse, request: CheckRequest, content: Sequence[Part], opinion: Opinion, stage: str, ask: Ask
) -> None:
    """Adds the contributions to an answer that has an explanation; what fails is named there, the verdict stands."""
    try:
        found = await contributions(request, content, opinion, stage, ask)
    except CascadeError as error:
        response.explanation.missing = error.reason
    else:
        response.explanation.contributions.extend(found)


async def _ask(request: CheckRequest, content: Sequence[Part], ask: Ask) -> Opinion:
    return await ask(await read(request, content))


def _only(content: Sequence[Part], passage: Passage) -> tuple[Part, ...]:
    """A window as a content of its own."""
    text = next(part.text for part in content if part.field == passage.field)
    return (Part(passage.field, text[passage.start : passage.end]),)


def _places(content: Sequence[Part], passages: Sequence[Passage]) -> list[Place]:
    """The parts to leave out, in order: of too many those in the worst windows."""
    places = [(part.field, *span) for part in content for span in sentences.parts(part.text)]
    if len(places) <= MOST:
        return places

    def worst(place: Place) -> float:
        field, start, end = place
        return max((p.probability for p in passages if p.field == field and p.start < end and start < p.end), default=0)

    return sorted(sorted(places, key=worst, reverse=True)[:MOST], key=places.index)


def _without(content: Sequence[Part], place: Place) -> tuple[Part, ...]:
    """The content without one place; a part of which nothing is left is gone."""
    field, start, end = place
    kept = [Part(part.field, part.text[:start] + part.text[end:]) if part.field == field else part for part in content]
    return tuple(part for part in kept if part.text.strip())
