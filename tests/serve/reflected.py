"""A generic client: *a channel, names* -> a method, and its request, made of what the server says of itself."""

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def method_of(channel, service, name):
    """What calls a unary method, and the class of its request."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(service).FindMethodByName(name)
    ask, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{service}/{name}", request_serializer=ask.SerializeToString, response_deserializer=answer.FromString
    )
    return call, ask
