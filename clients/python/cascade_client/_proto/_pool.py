"""*cascade.binpb* -> message classes, in a descriptor pool that is shared with nobody."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal import builder

POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString((files(__package__) / "cascade.binpb").read_bytes()).file:
    POOL.AddSerializedFile(_file.SerializeToString())


def load(file: str, module: str, namespace: dict[str, Any]) -> None:
    """Puts the messages and enums of a proto file into a module, as protoc's own modules do."""
    descriptor = POOL.FindFileByName(file)
    namespace["DESCRIPTOR"] = descriptor
    builder.BuildMessageAndEnumDescriptors(descriptor, namespace)
    builder.BuildTopDescriptorsAndMessages(descriptor, module, namespace)
