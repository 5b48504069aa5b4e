"""*address, trust, token* -> what channels are made of, the same with and without asyncio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc

VERSION = "0.1.0"

# UNAVAILABLE: nobody answered, or the server stops. RESOURCE_EXHAUSTED: an overloaded server says when to come again,
# and one that refuses for good sends a pushback of -1 (gRFC A6). To judge a text twice does no harm.
SERVICE_CONFIG: Mapping[str, Any] = {
    "methodConfig": [
        {
            "name": [{"service": "cascade.v1.CascadeService"}, {"service": "grpc.health.v1.Health"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1},
}
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.per_rpc_retry_buffer_size", 4 * 2**20),  # more than the largest text: a longer request is not repeated
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.keepalive_time_ms", 30_000),  # finds a server that vanished with an open stream
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.primary_user_agent", f"cascade-client-python/{VERSION}"),
)


@dataclass(frozen=True)
class Connection:
    """How a server is reached.

    Attributes:
        target: "HOST:PORT", or another name that gRPC knows, "unix:PATH" or "dns:///HOST:PORT".
        token: sent as ``authorization: Bearer TOKEN``; None for none.
        tls: whether to encrypt. Implied by ``ca`` and ``certificate``.
        ca: file of the authorities that the server's certificate is checked by; None for the system's.
        certificate: files of the caller's own certificate chain and key, for servers that ask for one.
        options: further channel arguments; they go before this client's own.

    Raises:
        ValueError: the token would go over a network unencrypted.
        OSError: a file cannot be read.
    """

    target: str
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | Path | None = None
    certificate: tuple[str | Path, str | Path] | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.token is not None and not self.secure and not _is_local(self.target):
            raise ValueError("a token goes over a network with TLS only: pass tls=True or ca=FILE")

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls or self.ca is not None or self.certificate is not None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    @property
    def arguments(self) -> list[tuple[str, Any]]:
        """The channel's arguments."""
        return [*{**dict(OPTIONS), **dict(self.options)}.items()]

    def credentials(self) -> grpc.ChannelCredentials:
        """Who is trusted, and who this is."""
        chain, key = (Path(path).read_bytes() for path in self.certificate) if self.certificate else (None, None)
        return grpc.ssl_channel_credentials(Path(self.ca).read_bytes() if self.ca else None, key, chain)


def _is_local(target: str) -> bool:
    """Whether a target never leaves this machine."""
    if target.startswith("unix:"):
        return True
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
