"""*protos* -> one page: every service, method, message, field and enum with its comment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

# A place in a file, as google.protobuf.SourceCodeInfo numbers it: field numbers of descriptor.proto and positions.
At = tuple[int, ...]
Row = tuple[str, ...]
MESSAGES, ENUMS, SERVICES, METHODS = 4, 5, 6, 2
FIELDS, NESTED, NESTED_ENUMS, VALUES = 2, 3, 4, 2
HEAD = """# The contract

Made from `protos/cascade/v1`, which is the contract; comments are those of the sources. `optional` fields tell absent
from zero.
"""


def page(protos: Path) -> str:
    """The page of all files of the package ``cascade.v1``.

    Raises:
        CalledProcessError: protoc refuses the files.
    """
    files = [_File(file) for file in _descriptors(protos)]
    services = [part for file in files for part in file.services()]
    rest = [part for file in files for part in (*file.messages(), *file.enums())]
    return "\n".join([HEAD, *services, "## Messages\n", *rest])


def _descriptors(protos: Path) -> Iterable[FileDescriptorProto]:
    sources = sorted((protos / "cascade/v1").glob("*.proto"))
    with TemporaryDirectory() as folder:
        out = Path(folder, "set")
        options = [f"-I{protos}", "--include_source_info", f"--descriptor_set_out={out}"]
        run([sys.executable, "-m", "grpc_tools.protoc", *options, *map(str, sources)], check=True)
        return FileDescriptorSet.FromString(out.read_bytes()).file


class _File:
    """One file's parts as Markdown."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(place.path): " ".join((place.leading_comments or place.trailing_comments).split())
            for place in file.source_code_info.location
        }

    def services(self) -> Iterator[str]:
        for index, service in enumerate(self._file.service):
            at = (SERVICES, index)
            yield f"## {service.name} {{ #{self._id(service.name)} }}\n\n{self._comment(at)}\n"
            yield _table(("method", "request", "answer", ""), self._methods(service, at))

    def messages(self) -> Iterator[str]:
        for index, message in enumerate(self._file.message_type):
            yield from self._message(message, message.name, (MESSAGES, index))

    def enums(self) -> Iterator[str]:
        for index, enum in enumerate(self._file.enum_type):
            yield self._enum(enum, enum.name, (ENUMS, index))

    def _methods(self, service: ServiceDescriptorProto, at: At) -> Iterator[Row]:
        for index, method in enumerate(service.method):
            asked = _stream(method.client_streaming) + self._link(method.input_type)
            answer = _stream(method.server_streaming) + self._link(method.output_type)
            yield f"`{method.name}`", asked, answer, self._comment((*at, METHODS, index))

    def _message(self, message: DescriptorProto, name: str, at: At) -> Iterator[str]:
        yield f"### {name} {{ #{self._id(name)} }}\n\n{self._comment(at)}\n"
        entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
        if message.field:
            yield _table(("field", "type", ""), self._fields(message, entries, at))
        for index, nested in enumerate(message.nested_type):
            if nested.name not in entries:
                yield from self._message(nested, f"{name}.{nested.name}", (*at, NESTED, index))
        for index, enum in enumerate(message.enum_type):
            yield self._enum(enum, f"{name}.{enum.name}", (*at, NESTED_ENUMS, index))

    def _fields(self, message: DescriptorProto, entries: dict[str, DescriptorProto], at: At) -> Iterator[Row]:
        for index, field in enumerate(message.field):
            entry = entries.get(field.type_name.rpartition(".")[2])
            if entry:
                kind = f"map of {self._type(entry.field[0])} to {self._type(entry.field[1])}"
            else:
                kind = self._type(field)
                if field.label == FieldDescriptorProto.LABEL_REPEATED:
                    kind = f"repeated {kind}"
            note = self._comment((*at, FIELDS, index))
            if field.proto3_optional:
                kind = f"optional {kind}"
            elif field.HasField("oneof_index"):
                note += f" One of `{message.oneof_decl[field.oneof_index].name}`."
            yield f"`{field.name}`", kind, note

    def _enum(self, enum: EnumDescriptorProto, name: str, at: At) -> str:
        rows = [(f"`{value.name}`", self._comment((*at, VALUES, index))) for index, value in enumerate(enum.value)]
        return f"### {name} {{ #{self._id(name)} }}\n\n{self._comment(at)}\n\n{_table(('value', ''), rows)}"

    def _type(self, field: FieldDescriptorProto) -> str:
        plain = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        return self._link(field.type_name) if field.type_name else plain

    def _link(self, type_name: str) -> str:
        package = f".{self._file.package}."
        if not type_name.startswith(package):
            return f"`{type_name.lstrip('.')}`"
        name = type_name.removeprefix(package)
        return f"[{name}](#{self._id(name)})"

    def _id(self, name: str) -> str:
        return f"{self._file.package}.{name}".replace(".", "-").lower()

    def _comment(self, at: At) -> str:
        return self._comments.get(at, "").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _stream(streaming: bool) -> str:
    return "stream of " if streaming else ""


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
