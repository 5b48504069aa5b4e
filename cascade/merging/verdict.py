"""Merged probability and flagged hazards -> verdict and action: first the thresholds, then the hazards' own rules."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cascade.policy.model import ActionName, Policy
from cascade.v1.check_pb2 import Action, Verdict
from stages.taxonomy import HAZARD_SLUGS

SAFE, CONTROVERSIAL, UNSAFE = Verdict.VERDICT_SAFE, Verdict.VERDICT_CONTROVERSIAL, Verdict.VERDICT_UNSAFE
# A stronger action has a larger number.
ACTIONS: dict[ActionName, Action] = {
    "ALLOW": Action.ACTION_ALLOW,
    "REVIEW": Action.ACTION_REVIEW,
    "BLOCK": Action.ACTION_BLOCK,
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is held of a content, what is done about it, and the policy rule that changed one of them, if any."""

    verdict: Verdict
    action: Action
    override_rule: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a ruling rests on.

    Attributes:
        probability: that the content is unsafe, merged.
        threshold: from where on it counts as unsafe, on the same scale.
        stage1_sure: stage 1's own probability reached ``route.high``: stage 2 cannot clear the content.
        flagged: slugs of the hazards that reached their thresholds and that the request asks about.
        elsewhere: only hazards that the request does not ask about were flagged, so the heads that judge the content
            as a whole speak of those.
    """

    probability: float
    threshold: float
    stage1_sure: bool = False
    flagged: Collection[str] = ()
    elsewhere: bool = False


def rule(evidence: Evidence, policy: Policy) -> Ruling:
    """Applies the thresholds, then raises verdict and action where a flagged hazard's rule asks for more."""
    verdict = _verdict(evidence, policy)
    return _override(Ruling(verdict, _action(verdict, policy)), evidence.flagged, policy)


def fallback(choice: str, key: str) -> Ruling:
    """The ruling that ``on_error = "block"`` or ``"allow"`` asks for; ``key`` names it, say "stage2.on_error"."""
    verdict, action = {"block": (UNSAFE, ACTIONS["BLOCK"]), "allow": (SAFE, ACTIONS["ALLOW"])}[choice]
    return Ruling(verdict, action, key)


def _verdict(evidence: Evidence, policy: Policy) -> Verdict:
    if evidence.elsewhere:
        return SAFE
    if evidence.probability >= evidence.threshold:
        return UNSAFE
    doubtful = evidence.probability >= policy.merge.controversial_threshold or evidence.stage1_sure or evidence.flagged
    return CONTROVERSIAL if doubtful and policy.merge.mode == "strict" else SAFE


def _override(ruling: Ruling, flagged: Collection[str], policy: Policy) -> Ruling:
    """Raises the action to the strongest of the flagged hazards' rules; BLOCK raises the verdict too."""
    for slug in HAZARD_SLUGS:
        action = policy.hazards[slug].action
        if slug not in flagged or action is None:
            continue
        stronger = ACTIONS[action] > ruling.action
        if stronger or (action == "BLOCK" and ruling.verdict != UNSAFE):
            verdict = UNSAFE if action == "BLOCK" else ruling.verdict
            ruling = Ruling(verdict, ACTIONS[action], f"hazards.{slug}")
    return ruling


def _action(verdict: Verdict, policy: Policy) -> Action:
    actions = policy.actions
    return ACTIONS[{SAFE: actions.safe, CONTROVERSIAL: actions.controversial, UNSAFE: actions.unsafe}[verdict]]
