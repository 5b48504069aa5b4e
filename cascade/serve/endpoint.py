"""Where a server listens. Imports nothing heavy, so that a bad address is refused at once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server listens (port 0: a free one; None: not at all), and how long it may take to stop."""

    host: str
    port: int
    metrics_port: int | None
    drain_s: float
    metrics_host: str = "127.0.0.1"
    http_port: int | None = None

    def address(self, port: int) -> str:
        """``HOST:PORT``, an IPv6 host in brackets."""
        return _address(self.host, port)

    def metrics_address(self, port: int) -> str:
        """The same for the metrics."""
        return _address(self.metrics_host, port)

    @property
    def is_public(self) -> bool:
        """Other machines can reach it. A host name other than localhost counts as public."""
        return _is_public(self.host)

    @property
    def has_public_metrics(self) -> bool:
        """Other machines can reach the metrics, if there are any."""
        return self.metrics_port is not None and _is_public(self.metrics_host)


def _is_public(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
