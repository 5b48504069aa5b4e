"""A client that has no stubs and learns everything from the server."""

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.serve.calling import SERVICES


@pytest.fixture
def database(served):
    return ProtoReflectionDescriptorDatabase(served.channel)


def test_lists_every_service(database):
    assert {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} == set(
        database.get_services()
    )


def test_a_check_from_reflection_alone(database, served):
    pool = DescriptorPool(database)
    method = pool.FindServiceByName("cascade.v1.CascadeService").FindMethodByName("Check")
    ask, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    check = served.channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=ask.SerializeToString,
        response_deserializer=answer.FromString,
    )
    response = check(ask(request_id="reflected", text="What grows well beside beans?"), timeout=60)
    assert response.request_id == "reflected"
    verdicts = method.output_type.fields_by_name["verdict"].enum_type.values_by_number
    assert verdicts[response.verdict].name == "VERDICT_SAFE"
