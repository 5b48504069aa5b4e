"""The messages of google/rpc/status.proto. Made by generate.py."""

from cascade_client._proto._pool import load

load("google/rpc/status.proto", __name__, globals())
