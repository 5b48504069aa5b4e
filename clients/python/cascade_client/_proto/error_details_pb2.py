"""The messages of google/rpc/error_details.proto. Made by generate.py."""

from cascade_client._proto._pool import load

load("google/rpc/error_details.proto", __name__, globals())
