"""The methods that are called: names, and how their messages are read."""

from __future__ import annotations

from typing import Any

from cascade_client._proto.cascade_service_pb2 import (
    BatchCheckRequest,
    BatchCheckResponse,
    CheckStreamRequest,
    CheckStreamResponse,
    ModerateStreamRequest,
    ModerateStreamResponse,
)
from cascade_client._proto.check_pb2 import CheckRequest, CheckResponse
from cascade_client._proto.health_pb2 import HealthCheckRequest, HealthCheckResponse

SERVICE = "/cascade.v1.CascadeService/"


class Methods:
    """The methods on a channel, with or without asyncio: both kinds of channel make them alike."""

    def __init__(self, channel: Any) -> None:
        self.check = channel.unary_unary(f"{SERVICE}Check", CheckRequest.SerializeToString, CheckResponse.FromString)
        self.batch_check = channel.unary_unary(
            f"{SERVICE}BatchCheck", BatchCheckRequest.SerializeToString, BatchCheckResponse.FromString
        )
        self.check_stream = channel.stream_stream(
            f"{SERVICE}CheckStream", CheckStreamRequest.SerializeToString, CheckStreamResponse.FromString
        )
        self.moderate_stream = channel.stream_stream(
            f"{SERVICE}ModerateStream", ModerateStreamRequest.SerializeToString, ModerateStreamResponse.FromString
        )
        self.health = channel.unary_unary(
            "/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
