"""JSON -> a request of the contract, or what is wrong with it: the field by its path, never what is in it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from pydantic import TypeAdapter, ValidationError

from cascade.errors import InvalidRequestError

OBJECT = TypeAdapter(dict[str, Any])
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
STRINGS = (FieldDescriptor.TYPE_STRING,)
BOOLEANS = (FieldDescriptor.TYPE_BOOL,)

Kind = TypeVar("Kind", bound=Message)


def parse(data: bytes) -> dict[str, Any]:
    """JSON of UTF-8 -> its object.

    Raises:
        InvalidRequestError: it is no JSON, nested too deep, or no object.
    """
    try:
        return OBJECT.validate_json(data)
    except ValidationError as error:
        (problem,) = error.errors(include_url=False, include_context=False, include_input=False)
        if problem["type"] != "json_invalid":
            raise InvalidRequestError("the body must be a JSON object", "") from None
        where = re.search(r" at line \d+ column \d+$", problem["msg"])
        raise InvalidRequestError(f"the body is not JSON{where[0] if where else ''}", "") from None


def to_message(given: dict[str, Any], kind: type[Kind]) -> Kind:
    """A JSON object as a message; field names may be in lowerCamelCase or as in the contract.

    Raises:
        InvalidRequestError: it is none; ``field`` says where.
    """
    message = kind()
    try:
        ParseDict(given, message)
    except ParseError:  # what it says may quote the caller
        descriptor: Any = kind.DESCRIPTOR
        what, field = _fault(descriptor, given, "") or (f"the body is no {descriptor.full_name}", "")
        raise InvalidRequestError(what, field) from None
    return message


def name_of(key: str) -> str:
    """A key for people to read; what is no plain name may be a text."""
    return key if NAME.fullmatch(key) else "(a name that is none)"


def _fault(kind: Descriptor, given: Any, prefix: str) -> tuple[str, str] | None:
    """The first thing in an object that is not as its message says, and the path of its field; None if all is."""
    if not isinstance(given, dict):
        return f"{prefix.rstrip('.')} must be an object", prefix.rstrip(".")
    fields = {name: field for field in kind.fields for name in (field.name, field.json_name)}
    chosen: dict[str, str] = {}
    for key, value in given.items():
        field = fields.get(key)
        path = prefix + (field.name if field else name_of(key))
        if field is None:
            return f"{path} is no field of {kind.full_name}", path
        if value is None:
            continue
        if field.containing_oneof is not None:
            other = chosen.setdefault(field.containing_oneof.name, path)
            if other != path:
                return f"{other} and {path} cannot both be set", path
        found = _wrong_values(field, value, path)
        if found:
            return found
    return None


def _wrong_values(field: FieldDescriptor, value: Any, path: str) -> tuple[str, str] | None:
    if not field.is_repeated:
        return _wrong_value(field, value, path)
    if not isinstance(value, list):
        return f"{path} must be an array", path
    found = (_wrong_value(field, one, f"{path}[{index}]") for index, one in enumerate(value))
    return next(filter(None, found), None)


def _wrong_value(field: FieldDescriptor, value: Any, path: str) -> tuple[str, str] | None:
    if field.message_type is not None:
        return _fault(field.message_type, value, f"{path}.")
    if field.type in STRINGS and not isinstance(value, str):
        return f"{path} must be a string", path
    if field.type in BOOLEANS and not isinstance(value, bool):
        return f"{path} must be true or false", path
    return None
