"""The messages of Envoy's filters ext_proc and ext_authz, v3, from the descriptors in ``envoy.binpb``.

They are made here instead of taken from the package ``xds-protos``, because its wheel overwrites modules of
``googleapis-common-protos`` and of ``opentelemetry-proto``. They live in a descriptor pool of their own, so that both
can be imported in one process; a message that they hold, a Struct or a Status, has to be of this pool, too.

    make proto-envoy    writes envoy.binpb anew, out of that wheel
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString(files(__package__).joinpath("envoy.binpb").read_bytes()).file:
    _POOL.Add(_file)


def message(name: str) -> Any:
    """The class of a message by its full name."""
    return GetMessageClass(_POOL.FindMessageTypeByName(name))


def service(name: str) -> ServiceDescriptor:
    """The contract of a service by its full name."""
    found: ServiceDescriptor = _POOL.FindServiceByName(name)
    return found


EXTERNAL_PROCESSOR = service("envoy.service.ext_proc.v3.ExternalProcessor")
AUTHORIZATION = service("envoy.service.auth.v3.Authorization")

Duration = message("google.protobuf.Duration")
Struct = message("google.protobuf.Struct")
Status = message("google.rpc.Status")
HttpStatus = message("envoy.type.v3.HttpStatus")
HeaderMap = message("envoy.config.core.v3.HeaderMap")
HeaderValue = message("envoy.config.core.v3.HeaderValue")
HeaderValueOption = message("envoy.config.core.v3.HeaderValueOption")

ProcessingMode = message("envoy.extensions.filters.http.ext_proc.v3.ProcessingMode")
ProcessingRequest = message("envoy.service.ext_proc.v3.ProcessingRequest")
ProcessingResponse = message("envoy.service.ext_proc.v3.ProcessingResponse")
ProtocolConfiguration = message("envoy.service.ext_proc.v3.ProtocolConfiguration")
HttpHeaders = message("envoy.service.ext_proc.v3.HttpHeaders")
HttpBody = message("envoy.service.ext_proc.v3.HttpBody")
HttpTrailers = message("envoy.service.ext_proc.v3.HttpTrailers")
HeadersResponse = message("envoy.service.ext_proc.v3.HeadersResponse")
BodyResponse = message("envoy.service.ext_proc.v3.BodyResponse")
TrailersResponse = message("envoy.service.ext_proc.v3.TrailersResponse")
CommonResponse = message("envoy.service.ext_proc.v3.CommonResponse")
HeaderMutation = message("envoy.service.ext_proc.v3.HeaderMutation")
BodyMutation = message("envoy.service.ext_proc.v3.BodyMutation")
StreamedBodyResponse = message("envoy.service.ext_proc.v3.StreamedBodyResponse")
ImmediateResponse = message("envoy.service.ext_proc.v3.ImmediateResponse")

AuthorizationRequest = message("envoy.service.auth.v3.CheckRequest")
AuthorizationResponse = message("envoy.service.auth.v3.CheckResponse")
OkHttpResponse = message("envoy.service.auth.v3.OkHttpResponse")
DeniedHttpResponse = message("envoy.service.auth.v3.DeniedHttpResponse")
