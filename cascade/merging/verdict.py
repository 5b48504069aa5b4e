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
    """What is held of a content, what is done about it, and the policy rule that changed one of them, if any.

    ``decided_by`` is the key of the policy that the verdict comes from, with or without a change.
    """

    verdict: Verdict
    action: Action
    override_rule: str = ""
    decided_by: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a ruling rests on.

    Attributes:
        probability: that the content is unsafe, merged.
        threshold: from where on it counts as unsafe, on the same scale.
        key: of the policy, where that threshold stands.
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
    key: str = "stage2.unsafe_threshold"


def rule(evidence: Evidence, policy: Policy) -> Ruling:
    """Applies the thresholds, then raises verdict and action where a flagged hazard's rule asks for more."""
    verdict, key = _verdict(evidence, policy)
    return _override(Ruling(verdict, _action(verdict, policy), decided_by=key), evidence.flagged, policy)


def fallback(choice: str, key: str) -> Ruling:
    """The ruling that ``on_error = "block"`` or ``"allow"`` asks for; ``key`` names it, say "stage2.on_error"."""
    verdict, action = {"block": (UNSAFE, ACTIONS["BLOCK"]), "allow": (SAFE, ACTIONS["ALLOW"])}[choice]
    return Ruling(verdict, action, key, key)


def _verdict(evidence: Evidence, policy: Policy) -> tuple[Verdict, str]:
    """The verdict, and the key of the policy that it comes from."""
    if evidence.elsewhere:
        return SAFE, "options.hazards"
    if evidence.probability >= evidence.threshold:
        return UNSAFE, evidence.key
    if policy.merge.mode == "strict":
        if evidence.probability >= policy.merge.controversial_threshold:
            return CONTROVERSIAL, "merge.controversial_threshold"
        if evidence.stage1_sure:
            return CONTROVERSIAL, "route.high"
        for slug in HAZARD_SLUGS:
            if slug in evidence.flagged:
                return CONTROVERSIAL, f"hazards.{slug}.threshold"
    return SAFE, evidence.key


def _override(ruling: Ruling, flagged: Collection[str], policy: Policy) -> Ruling:
    """Raises the action to the strongest of the flagged hazards' rules; BLOCK raises the verdict too."""
    for slug in HAZARD_SLUGS:
        action = policy.hazards[slug].action
        if slug not in flagged or action is None:
            continue
        stronger = ACTIONS[action] > ruling.action
        if stronger or (action == "BLOCK" and ruling.verdict != UNSAFE):
            verdict = UNSAFE if action == "BLOCK" else ruling.verdict
            ruling = Ruling(verdict, ACTIONS[action], f"hazards.{slug}", f"hazards.{slug}.action")
    return ruling


def _action(verdict: Verdict, policy: Policy) -> Action:
    actions = policy.actions
    return ACTIONS[{SAFE: actions.safe, CONTROVERSIAL: actions.controversial, UNSAFE: actions.unsafe}[verdict]]
