"""The contract's services for Ray's gRPC proxy: method names and raw bytes; what they mean is the replicas' business.

The proxy finds :func:`add_services` and :func:`add_health` by name, in ``grpc_options.grpc_servicer_functions``. It
replaces each handler by one that calls the method of that name of the ingress. Requests stay bytes on that way, so that
what is no message is answered as on any other server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2_grpc

from cascade.v1 import cascade_service_pb2, model_service_pb2, policy_service_pb2, stage_service_pb2

MODULES = (cascade_service_pb2, policy_service_pb2, model_service_pb2, stage_service_pb2)


def contracts() -> list[ServiceDescriptor]:
    """The services of ``cascade.v1``."""
    return [contract for module in MODULES for contract in module.DESCRIPTOR.services_by_name.values()]


def methods() -> Iterator[MethodDescriptor]:
    """The methods of all services; Ray tells them apart by their names alone, which differ."""
    for contract in contracts():
        yield from contract.methods


def path_of(method: MethodDescriptor) -> str:
    """A method as gRPC names it on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def add_services(servicer: Any, server: grpc.Server) -> None:
    """Adds the services of ``cascade.v1`` to the proxy's server."""
    for contract in contracts():
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in contract.methods:
            make = (
                grpc.stream_stream_rpc_method_handler
                if method.client_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            handlers[method.name] = make(getattr(servicer, method.name))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(contract.full_name, handlers),))


def add_health(servicer: Any, server: grpc.Server) -> None:
    """Adds ``grpc.health.v1.Health``."""
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
