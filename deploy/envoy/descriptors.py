"""Writes the descriptors of Envoy's filters and of all they use: ``python descriptors.py FILE``; needs xds-protos."""

from __future__ import annotations

import sys
from pathlib import Path

from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def add(file: FileDescriptor, found: FileDescriptorSet, seen: set[str]) -> None:
    """Adds a file behind all that it depends on, once."""
    if file.name not in seen:
        seen.add(file.name)
        for needed in file.dependencies:
            add(needed, found, seen)
        file.CopyToProto(found.file.add())


if __name__ == "__main__":
    descriptors, names = FileDescriptorSet(), set[str]()
    for module in (external_auth_pb2, external_processor_pb2):
        add(module.DESCRIPTOR, descriptors, names)
    Path(sys.argv[1]).write_bytes(descriptors.SerializeToString(deterministic=True))
