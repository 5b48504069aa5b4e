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
from cascade.policy.network import LABELS, Network
from cascade.policy.reference import Reference
from cascade.policy.routers import build_router
from cascade.policy.table import Digest, Probability, Table
from cascade.policy.toml import to_toml
from cascade.routing.router import Router
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

    Of the kind "band" it is what lies at or above ``low``, of the others what is worth stage 2 by at least ``at``: for
    "margin" what lies within one of the ``margins`` (:class:`~cascade.routing.margin.Margins`, at 1/2), for
    "delegation" what a network (:class:`~cascade.routing.delegation.Delegation`) expects stage 2 to mend. What stage 1
    flags is escalated too, unless ``escalate_flagged`` leaves it to the router.

    From ``high`` on stage 1 is sure enough that a text is unsafe that stage 2 cannot clear it. ``audit_rate`` is the
    share of passed texts that is escalated all the same, and ``max_escalation`` the share that a fitted router may
    escalate.
    """

    kind: Literal["band", "margin", "delegation"] = "band"
    low: Probability = 0.08
    high: Probability = 0.97
    at: Probability = 0.5
    escalate_flagged: bool = True
    audit_rate: Probability = 0.01
    max_escalation: Probability = 0.30
    margins: dict[str, Weight] = Field(default={})
    delegation: Network | None = None

    @field_validator("margins")
    @classmethod
    def _in_one_order(cls, margins: dict[str, float]) -> dict[str, float]:
        return dict(sorted(margins.items()))

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        problems = [f"margins.{label}: no stage has such a label" for label in sorted(self.margins.keys() - LABELS)]
        if bool(self.margins) != (self.kind == "margin"):
            problems.append('the table margins goes with kind = "margin"')
        if (self.delegation is not None) != (self.kind == "delegation"):
            problems.append('the table delegation goes with kind = "delegation"')
        if self.kind == "band" and not self.escalate_flagged:
            problems.append("a band always escalates what is flagged: it lies above the band")
        if problems:
            raise ValueError("\n".join(problems))
        return self


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


class Stream(Table):
    """What is held back of a generation while it is written: text whose action is ``hold`` or a stronger one.

    The default shows what is to be reviewed, as its action says so too: nobody can review a text between two words of
    it, and to hold it until the end would be a block by another name. Nothing is shown before it was read.
    """

    hold: Literal["REVIEW", "BLOCK"] = "BLOCK"


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
    stream: Stream = Stream()
    models: Models = Models()
    certificate: Certificate | None = None
    reference: Reference | None = None

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
        low = self.route.low if self.route.kind == "band" else 0.0  # the other kinds do not use it
        if not low <= self.stage1.unsafe_threshold <= self.route.high:
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
        for derived in ("toml", "revision", "rules_digest", "router"):
            copied.__dict__.pop(derived, None)
        return copied

    @cached_property
    def router(self) -> Router:
        """Decides what is escalated; built once."""
        return build_router(self)

    @cached_property
    def toml(self) -> str:
        """The policy as canonical TOML: every default written out, tables and keys in the order of this file."""
        return to_toml(self.model_dump(by_alias=True, exclude_none=True))

    @cached_property
    def revision(self) -> str:
        """The first 16 hex digits of the SHA-256 of :attr:`toml`."""
        return revision_of(self.toml)

    @cached_property
    def rules_digest(self) -> str:
        """SHA-256 of how the policy judges: of its canonical TOML without name, stream, certificate and reference."""
        apart = {"name", "stream", "certificate", "reference"}
        rules = self.model_dump(by_alias=True, exclude_none=True, exclude=apart)
        return hashlib.sha256(to_toml(rules).encode()).hexdigest()


def revision_of(toml: str) -> str:
    """The revision of a policy by its canonical TOML."""
    return hashlib.sha256(toml.encode()).hexdigest()[:16]
