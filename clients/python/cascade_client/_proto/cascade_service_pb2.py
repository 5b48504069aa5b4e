"""The messages of cascade/v1/cascade_service.proto. Made by generate.py."""

from cascade_client._proto._pool import load

load("cascade/v1/cascade_service.proto", __name__, globals())
