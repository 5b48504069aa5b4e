"""A client of Cascade, the text-safety service: ``with Client("HOST:PORT") as client: client.check("text")``."""

from cascade_client.aio import AsyncClient
from cascade_client.client import Client
from cascade_client.connection import SERVICE_CONFIG, VERSION, Connection
from cascade_client.contents import Content, Item, Options
from cascade_client.errors import (
    CascadeError,
    DeadlineError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    Violation,
)
from cascade_client.messages import (
    Action,
    CheckRequest,
    CheckResponse,
    Conversation,
    Exchange,
    Hazard,
    ModerateStreamResponse,
    RouteReason,
    Turn,
    Verdict,
)

__version__ = VERSION
__all__ = [
    "SERVICE_CONFIG",
    "Action",
    "AsyncClient",
    "CascadeError",
    "CheckRequest",
    "CheckResponse",
    "Client",
    "Connection",
    "Content",
    "Conversation",
    "DeadlineError",
    "Exchange",
    "Hazard",
    "InvalidRequestError",
    "Item",
    "LimitExceededError",
    "ModerateStreamResponse",
    "NotFoundError",
    "Options",
    "OverloadedError",
    "PermissionDeniedError",
    "RouteReason",
    "Turn",
    "UnauthenticatedError",
    "UnavailableError",
    "Verdict",
    "Violation",
]
