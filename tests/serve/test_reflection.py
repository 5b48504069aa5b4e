"""A client that has no stubs and learns everything from the server."""

import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.serve.calling import SERVICES
from tests.serve.reflected import method_of


@pytest.fixture
def database(served):
    return ProtoReflectionDescriptorDatabase(served.channel)


def test_lists_every_service(database):
    assert {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} == set(
        database.get_services()
    )


def test_a_check_from_reflection_alone(served):
    check, ask = method_of(served.channel, "cascade.v1.CascadeService", "Check")
    response = check(ask(request_id="reflected", text="What grows well beside beans?"), timeout=60)
    assert response.request_id == "reflected"
    verdicts = response.DESCRIPTOR.fields_by_name["verdict"].enum_type.values_by_number
    assert verdicts[response.verdict].name == "VERDICT_SAFE"
