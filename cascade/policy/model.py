"""The policy as data: what is escalated, how the stages are merged, where the thresholds lie, and what is done then.

A policy that exists is valid: every key is known, every number is in range, and the numbers agree with each other.
Thresholds stand on calibrated probabilities, 0 to 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cascade.policy.certificate import Certificate
from cascade.policy.table import Digest, Probability, Table
from cascade.policy.toml import to_toml
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS

Weight = Annotated[float, Field(gt=0)]
ActionName = Literal["ALLOW", "REVIEW", "BLOCK"]
ACTIONS: tuple[ActionName, ...] = ("ALLOW", "REVIEW", "BLOCK")  # from the mildest on


class Stage1(Table):
    """What stage 1's score means, and what happens when it fails."""

    unsafe_threshold: Probability = 0.62
    on_error: Literal["block", "allow"] = "block"


class Stage2(Table):
    """What the merged score means, and what happens when stage 2 fails."""

    unsafe_threshold: Probability = 0.55
    on_error: Literal["block", "allow", "stage1_only"] = "block"


class Route(Table):
    """What is escalated.

    Below ``low`` stage 1 is sure that a text is safe; from ``high`` on it is sure enough that it is unsafe that stage 2
    cannot clear it. ``audit_rate`` is the share of passed texts that is escalated all the same, and ``max_escalation``
    the share that a fitted band may escalate.
    """

    kind: Literal["band"] = "band"
    low: Probability = 0.08
    high: Probability = 0.97
    audit_rate: Probability = 0.01
    max_escalation: Probability = 0.30


class Stacker(Table):
    """The weights of the merge rule "stacker": ``sigmoid(w1 z1 + w2 z2 + bias)`` on calibrated logits."""

    w1: Weight = 0.35
    w2: Weight = 0.65
    bias: float = 0.0


class Merge(Table):
    """How windows become a text's score and stages a verdict.

    In the mode "strict" what lies between safe and unsafe is CONTROVERSIAL: a score of ``controversial_threshold`` or
    more, a flagged hazard, or a stage 1 that was sure. In the mode "loose" it is SAFE.
    """

    rule: Literal["max", "noisy_or", "logit_mean", "stacker"] = "stacker"
    segments: Literal["max", "length_calibrated"] = "length_calibrated"
    mode: Literal["strict", "loose"] = "strict"
    controversial_threshold: Probability = 0.44
    stacker: Stacker = Stacker()


class HazardRule(Table):
    """What one hazard's probability means: flagged from ``threshold`` on, escalated from ``escalate_at`` on.

    ``action`` is what is done at least when the hazard is flagged; BLOCK makes the verdict UNSAFE too.
    """

    threshold: Probability = 0.5
    escalate_at: Probability | None = None
    action: ActionName | None = None


class Actions(Table):
    """What is done for each verdict."""

    safe: ActionName = "ALLOW"
    controversial: ActionName = "REVIEW"
    unsafe: ActionName = "BLOCK"


class Models(Table):
    """The models that the policy was fitted on, by :func:`cascade.policy.fingerprint`; absent means any."""

    stage1: Digest | None = None
    stage2: Digest | None = None


class Policy(Table):
    """One policy. ``hazards`` has a rule for each of the 14 slugs, in canonical order."""

    schema_: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_.-]{0,63}$")]
    stage1: Stage1 = Stage1()
    stage2: Stage2 = Stage2()
    route: Route = Route()
    merge: Merge = Merge()
    hazards: dict[str, HazardRule] = Field(default={}, validate_default=True)
    actions: Actions = Actions()
    models: Models = Models()
    certificate: Certificate | None = None

    @field_validator("hazards")
    @classmethod
    def _all_hazards(cls, rules: dict[str, HazardRule]) -> dict[str, HazardRule]:
        unknown = [f"{slug} is no hazard that a stage knows" for slug in rules if slug not in HAZARD_INDEX]
        if unknown:
            raise ValueError("\n".join(unknown))
        return {slug: rules.get(slug, HazardRule()) for slug in HAZARD_SLUGS}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if not self.route.low <= self.stage1.unsafe_threshold <= self.route.high:
            problems.append("route.low <= stage1.unsafe_threshold <= route.high does not hold")
        if self.merge.controversial_threshold > self.stage2.unsafe_threshold:
            problems.append("merge.controversial_threshold is above stage2.unsafe_threshold")
        severity = [
            ACTIONS.index(action) for action in (self.actions.safe, self.actions.controversial, self.actions.unsafe)
        ]
        if severity != sorted(severity):
            problems.append("actions do not grow from safe over controversial to unsafe")
        for slug, rule in self.hazards.items():
            if rule.escalate_at is not None and rule.escalate_at > rule.threshold:
                problems.append(f"hazards.{slug}.escalate_at is above its threshold")
        if self.certificate is not None and self.certificate.rules != self.rules_digest:
            problems.append("the certificate is for other rules than these: tune again, or leave the table out")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values; what was derived from the old ones is derived again."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in ("toml", "revision", "rules_digest"):
            copied.__dict__.pop(derived, None)
        return copied

    @cached_property
    def toml(self) -> str:
        """The policy as canonical TOML: every default written out, tables and keys in the order of this file."""
        return to_toml(self.model_dump(by_alias=True, exclude_none=True))

    @cached_property
    def revision(self) -> str:
        """The first 16 hex digits of the SHA-256 of :attr:`toml`."""
        return hashlib.sha256(self.toml.encode()).hexdigest()[:16]

    @cached_property
    def rules_digest(self) -> str:
        """SHA-256 of what the policy does: of its canonical TOML without its name and its certificate."""
        rules = self.model_dump(by_alias=True, exclude_none=True, exclude={"name", "certificate"})
        return hashlib.sha256(to_toml(rules).encode()).hexdigest()
