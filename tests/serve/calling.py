"""What the tests of the server share: stubs by channel, raw calls, and the details of an error."""

from types import SimpleNamespace

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

from cascade.v1 import cascade_service_pb2_grpc, model_service_pb2_grpc, policy_service_pb2_grpc, stage_service_pb2_grpc

SERVICES = (
    "cascade.v1.CascadeService",
    "cascade.v1.PolicyService",
    "cascade.v1.ModelService",
    "cascade.v1.StageService",
)


def stubs(channel):
    return SimpleNamespace(
        cascade=cascade_service_pb2_grpc.CascadeServiceStub(channel),
        policy=policy_service_pb2_grpc.PolicyServiceStub(channel),
        models=model_service_pb2_grpc.ModelServiceStub(channel),
        stage=stage_service_pb2_grpc.StageServiceStub(channel),
    )


def raw(channel, method):
    """A unary method that takes and gives bytes."""
    return channel.unary_unary(f"/cascade.v1.{method}")


def unpack(status):
    """The details of a google.rpc.Status by type."""
    found = {}
    for packed in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(packed.value)
    return found


def fails(code, call, *arguments, **options):
    """Calls, expects this code, and returns the message, the error info and the fields at fault."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=options.pop("timeout", 60), **options)
    assert caught.value.code() is code, caught.value
    details = unpack(rpc_status.from_call(caught.value))
    fields = [violation.field for violation in details[BadRequest].field_violations] if BadRequest in details else []
    assert details[ErrorInfo].domain == "cascade.v1"
    return SimpleNamespace(
        message=caught.value.details(), info=details[ErrorInfo], fields=fields, retry=details.get(RetryInfo)
    )
