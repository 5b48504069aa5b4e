"""The messages of the contract that callers meet; `protos/cascade/v1` documents each field."""

from cascade_client._proto.cascade_service_pb2 import ModerateStreamResponse
from cascade_client._proto.check_pb2 import (
    Action,
    Attack,
    Attribute,
    Category,
    CheckOptions,
    CheckRequest,
    CheckResponse,
    Conversation,
    Coverage,
    Exchange,
    Hazard,
    Route,
    RouteReason,
    Span,
    StageReport,
    Turn,
    Verdict,
)

__all__ = [
    "Action",
    "Attack",
    "Attribute",
    "Category",
    "CheckOptions",
    "CheckRequest",
    "CheckResponse",
    "Conversation",
    "Coverage",
    "Exchange",
    "Hazard",
    "ModerateStreamResponse",
    "Route",
    "RouteReason",
    "Span",
    "StageReport",
    "Turn",
    "Verdict",
]
