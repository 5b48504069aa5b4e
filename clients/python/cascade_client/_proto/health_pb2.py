"""The messages of grpc/health/v1/health.proto. Made by generate.py."""

from cascade_client._proto._pool import load

load("grpc/health/v1/health.proto", __name__, globals())
