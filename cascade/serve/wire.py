"""bytes -> *read* -> a request, or what is wrong with the bytes. A bad message is a value that its handler answers.

grpc turns a deserializer that raises into an UNKNOWN without details and ends the whole stream with it. Here a failure
is data: a unary call answers INVALID_ARGUMENT, a stream answers the item and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from cascade.errors import CascadeError, InvalidRequestError


@dataclass(frozen=True, slots=True)
class Malformed:
    """What is no request: the error to answer with, and the caller's id where it could still be read."""

    error: CascadeError
    request_id: str = ""


Reader = Callable[[bytes], Message | Malformed]


def reader(kind: type[Message]) -> Reader:
    """A deserializer for messages of one kind that never raises."""
    descriptor: Any = kind.DESCRIPTOR

    def read(data: bytes) -> Message | Malformed:
        try:
            return kind.FromString(data)
        except DecodeError:
            return _diagnose(descriptor, data)

    return read


def _diagnose(kind: Descriptor, data: bytes) -> Malformed:
    """Says why bytes are no message of this kind, naming the string field that is not UTF-8 if that is the reason."""
    try:
        message = _twin(kind).FromString(data)
    except DecodeError:
        return Malformed(InvalidRequestError(f"the bytes are not a {kind.full_name} message", ""))
    path = _not_utf8(kind, message, "")
    return Malformed(InvalidRequestError(f"{path or kind.full_name} is not valid UTF-8", path), _request_id(message))


@cache
def _twin(kind: Descriptor) -> type[Message]:
    """The same message with every string field turned into bytes, which protobuf parses without looking inside."""
    pool = DescriptorPool()
    _add_as_bytes(kind.file, pool)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(kind.full_name))


def _add_as_bytes(file: FileDescriptor, pool: DescriptorPool) -> None:
    for dependency in file.dependencies:
        _add_as_bytes(dependency, pool)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _strings_to_bytes(message)
    pool.Add(proto)  # adding the same file twice changes nothing


def _strings_to_bytes(message: descriptor_pb2.DescriptorProto) -> None:
    message.options.ClearField("map_entry")  # a map cannot have bytes as keys; on the wire it is a repeated message
    for field in message.field:
        if field.type == FieldDescriptor.TYPE_STRING:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    for nested in message.nested_type:
        _strings_to_bytes(nested)


def _not_utf8(kind: Descriptor, message: Any, prefix: str) -> str:
    """Path of the first string that is not UTF-8, for instance "conversation.turns[2].text"; "" if there is none."""
    for twin_field, content in message.ListFields():
        field = kind.fields_by_name[twin_field.name]
        for index, value in enumerate(content if field.is_repeated else [content]):
            path = f"{prefix}{field.name}[{index}]" if field.is_repeated else f"{prefix}{field.name}"
            if field.message_type is not None:
                found = _not_utf8(field.message_type, value, f"{path}.")
            else:
                found = path if field.type == FieldDescriptor.TYPE_STRING and not _is_utf8(value) else ""
            if found:
                return found
    return ""


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _request_id(message: Any) -> str:
    """The caller's id in a check or in what wraps one; "" where there is none or it is not UTF-8 itself."""
    names = message.DESCRIPTOR.fields_by_name
    holder = message.request if "request" in names else message
    value: bytes = getattr(holder, "request_id", b"")
    return value.decode() if _is_utf8(value) else ""
