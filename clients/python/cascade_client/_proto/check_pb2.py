"""The messages of cascade/v1/check.proto. Made by generate.py."""

from cascade_client._proto._pool import load

load("cascade/v1/check.proto", __name__, globals())
