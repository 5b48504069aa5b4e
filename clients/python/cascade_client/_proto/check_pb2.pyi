from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_SAFE: _ClassVar[Verdict]
    VERDICT_CONTROVERSIAL: _ClassVar[Verdict]
    VERDICT_UNSAFE: _ClassVar[Verdict]

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_ALLOW: _ClassVar[Action]
    ACTION_REVIEW: _ClassVar[Action]
    ACTION_BLOCK: _ClassVar[Action]

class RouteReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROUTE_REASON_UNSPECIFIED: _ClassVar[RouteReason]
    ROUTE_REASON_PASSED: _ClassVar[RouteReason]
    ROUTE_REASON_FLAGGED: _ClassVar[RouteReason]
    ROUTE_REASON_UNCERTAIN: _ClassVar[RouteReason]
    ROUTE_REASON_TRIGGERED: _ClassVar[RouteReason]
    ROUTE_REASON_SENSITIVE_HAZARD: _ClassVar[RouteReason]
    ROUTE_REASON_AUDITED: _ClassVar[RouteReason]
    ROUTE_REASON_STAGE2_UNAVAILABLE: _ClassVar[RouteReason]
VERDICT_UNSPECIFIED: Verdict
VERDICT_SAFE: Verdict
VERDICT_CONTROVERSIAL: Verdict
VERDICT_UNSAFE: Verdict
ACTION_UNSPECIFIED: Action
ACTION_ALLOW: Action
ACTION_REVIEW: Action
ACTION_BLOCK: Action
ROUTE_REASON_UNSPECIFIED: RouteReason
ROUTE_REASON_PASSED: RouteReason
ROUTE_REASON_FLAGGED: RouteReason
ROUTE_REASON_UNCERTAIN: RouteReason
ROUTE_REASON_TRIGGERED: RouteReason
ROUTE_REASON_SENSITIVE_HAZARD: RouteReason
ROUTE_REASON_AUDITED: RouteReason
ROUTE_REASON_STAGE2_UNAVAILABLE: RouteReason

class CheckRequest(_message.Message):
    __slots__ = ("request_id", "text", "exchange", "conversation", "policy", "options")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    text: str
    exchange: Exchange
    conversation: Conversation
    policy: str
    options: CheckOptions
    def __init__(self, request_id: _Optional[str] = ..., text: _Optional[str] = ..., exchange: _Optional[_Union[Exchange, _Mapping[str, object]]] = ..., conversation: _Optional[_Union[Conversation, _Mapping[str, object]]] = ..., policy: _Optional[str] = ..., options: _Optional[_Union[CheckOptions, _Mapping[str, object]]] = ...) -> None: ...

class Exchange(_message.Message):
    __slots__ = ("prompt", "response")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    response: str
    def __init__(self, prompt: _Optional[str] = ..., response: _Optional[str] = ...) -> None: ...

class Conversation(_message.Message):
    __slots__ = ("turns",)
    TURNS_FIELD_NUMBER: _ClassVar[int]
    turns: _containers.RepeatedCompositeFieldContainer[Turn]
    def __init__(self, turns: _Optional[_Iterable[_Union[Turn, _Mapping[str, object]]]] = ...) -> None: ...

class Turn(_message.Message):
    __slots__ = ("role", "text")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    role: str
    text: str
    def __init__(self, role: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class CheckOptions(_message.Message):
    __slots__ = ("explain", "bypass_cache", "hazards", "adapter")
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    BYPASS_CACHE_FIELD_NUMBER: _ClassVar[int]
    HAZARDS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    explain: bool
    bypass_cache: bool
    hazards: _containers.RepeatedScalarFieldContainer[str]
    adapter: str
    def __init__(self, explain: _Optional[bool] = ..., bypass_cache: _Optional[bool] = ..., hazards: _Optional[_Iterable[str]] = ..., adapter: _Optional[str] = ...) -> None: ...

class CheckResponse(_message.Message):
    __slots__ = ("request_id", "verdict", "action", "unsafe_probability", "hazards", "categories", "attributes", "attacks", "route", "stages", "coverage", "spans", "merge_rule", "override_rule", "degraded", "degraded_reason", "policy_revision", "explanation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    UNSAFE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    HAZARDS_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ATTACKS_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    MERGE_RULE_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_RULE_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASON_FIELD_NUMBER: _ClassVar[int]
    POLICY_REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    verdict: Verdict
    action: Action
    unsafe_probability: float
    hazards: _containers.RepeatedCompositeFieldContainer[Hazard]
    categories: _containers.RepeatedCompositeFieldContainer[Category]
    attributes: _containers.RepeatedCompositeFieldContainer[Attribute]
    attacks: _containers.RepeatedCompositeFieldContainer[Attack]
    route: Route
    stages: _containers.RepeatedCompositeFieldContainer[StageReport]
    coverage: Coverage
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    merge_rule: str
    override_rule: str
    degraded: bool
    degraded_reason: str
    policy_revision: str
    explanation: Explanation
    def __init__(self, request_id: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., action: _Optional[_Union[Action, str]] = ..., unsafe_probability: _Optional[float] = ..., hazards: _Optional[_Iterable[_Union[Hazard, _Mapping[str, object]]]] = ..., categories: _Optional[_Iterable[_Union[Category, _Mapping[str, object]]]] = ..., attributes: _Optional[_Iterable[_Union[Attribute, _Mapping[str, object]]]] = ..., attacks: _Optional[_Iterable[_Union[Attack, _Mapping[str, object]]]] = ..., route: _Optional[_Union[Route, _Mapping[str, object]]] = ..., stages: _Optional[_Iterable[_Union[StageReport, _Mapping[str, object]]]] = ..., coverage: _Optional[_Union[Coverage, _Mapping[str, object]]] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping[str, object]]]] = ..., merge_rule: _Optional[str] = ..., override_rule: _Optional[str] = ..., degraded: _Optional[bool] = ..., degraded_reason: _Optional[str] = ..., policy_revision: _Optional[str] = ..., explanation: _Optional[_Union[Explanation, _Mapping[str, object]]] = ...) -> None: ...

class Hazard(_message.Message):
    __slots__ = ("slug", "code", "probability", "threshold", "flagged", "related")
    SLUG_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    RELATED_FIELD_NUMBER: _ClassVar[int]
    slug: str
    code: str
    probability: float
    threshold: float
    flagged: bool
    related: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, slug: _Optional[str] = ..., code: _Optional[str] = ..., probability: _Optional[float] = ..., threshold: _Optional[float] = ..., flagged: _Optional[bool] = ..., related: _Optional[_Iterable[str]] = ...) -> None: ...

class Category(_message.Message):
    __slots__ = ("name", "probability")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    probability: float
    def __init__(self, name: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Attribute(_message.Message):
    __slots__ = ("name", "probability")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    probability: float
    def __init__(self, name: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Attack(_message.Message):
    __slots__ = ("name", "probability", "flagged")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    FLAGGED_FIELD_NUMBER: _ClassVar[int]
    name: str
    probability: float
    flagged: bool
    def __init__(self, name: _Optional[str] = ..., probability: _Optional[float] = ..., flagged: _Optional[bool] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("escalated", "reason", "triggers", "audited")
    ESCALATED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TRIGGERS_FIELD_NUMBER: _ClassVar[int]
    AUDITED_FIELD_NUMBER: _ClassVar[int]
    escalated: bool
    reason: RouteReason
    triggers: _containers.RepeatedScalarFieldContainer[str]
    audited: bool
    def __init__(self, escalated: _Optional[bool] = ..., reason: _Optional[_Union[RouteReason, str]] = ..., triggers: _Optional[_Iterable[str]] = ..., audited: _Optional[bool] = ...) -> None: ...

class StageReport(_message.Message):
    __slots__ = ("name", "model", "revision", "device", "unsafe_probability", "calibrated_probability", "tokenize_ms", "queue_ms", "infer_ms", "scoring")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    UNSAFE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TOKENIZE_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    INFER_MS_FIELD_NUMBER: _ClassVar[int]
    SCORING_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    revision: str
    device: str
    unsafe_probability: float
    calibrated_probability: float
    tokenize_ms: float
    queue_ms: float
    infer_ms: float
    scoring: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., revision: _Optional[str] = ..., device: _Optional[str] = ..., unsafe_probability: _Optional[float] = ..., calibrated_probability: _Optional[float] = ..., tokenize_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., infer_ms: _Optional[float] = ..., scoring: _Optional[str] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("tokens_total", "tokens_scored", "segments", "truncated")
    TOKENS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_SCORED_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    tokens_total: int
    tokens_scored: int
    segments: int
    truncated: bool
    def __init__(self, tokens_total: _Optional[int] = ..., tokens_scored: _Optional[int] = ..., segments: _Optional[int] = ..., truncated: _Optional[bool] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("field", "start", "end", "stage", "score")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    field: str
    start: int
    end: int
    stage: str
    score: float
    def __init__(self, field: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., stage: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("rule", "probability", "threshold", "definitions", "contributions", "missing")
    RULE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    rule: str
    probability: float
    threshold: float
    definitions: _containers.RepeatedCompositeFieldContainer[HazardDefinition]
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    missing: str
    def __init__(self, rule: _Optional[str] = ..., probability: _Optional[float] = ..., threshold: _Optional[float] = ..., definitions: _Optional[_Iterable[_Union[HazardDefinition, _Mapping[str, object]]]] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping[str, object]]]] = ..., missing: _Optional[str] = ...) -> None: ...

class HazardDefinition(_message.Message):
    __slots__ = ("slug", "code", "definition")
    SLUG_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    slug: str
    code: str
    definition: str
    def __init__(self, slug: _Optional[str] = ..., code: _Optional[str] = ..., definition: _Optional[str] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("field", "start", "end", "stage", "drop")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    field: str
    start: int
    end: int
    stage: str
    drop: float
    def __init__(self, field: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., stage: _Optional[str] = ..., drop: _Optional[float] = ...) -> None: ...
