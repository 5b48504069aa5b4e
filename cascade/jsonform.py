"""The contract's messages as JSON, the same on every surface: lowerCamelCase, default values printed."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def to_dict(message: Message) -> dict[str, Any]:
    """A message as what :func:`json.dumps` takes. An optional field without a value is left out."""
    form: dict[str, Any] = MessageToDict(message, always_print_fields_with_no_presence=True)
    return form
