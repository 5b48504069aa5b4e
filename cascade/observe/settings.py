"""What a server tells of itself beyond metrics and logs, as its command line says it; travels to worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

if TYPE_CHECKING:
    from cascade.observe.telemetry import Telemetry


@dataclass(frozen=True)
class Observe:
    """What is told and where to.

    Attributes:
        access_log: the log has a line for each call.
        otel: traces and metrics are pushed to an OpenTelemetry collector.
        otel_endpoint: its address; empty for what the environment says.
    """

    access_log: bool = False
    otel: bool = False
    otel_endpoint: str = ""

    def telemetry(self, registry: CollectorRegistry) -> Telemetry | None:
        """What pushes from this process; None if nothing is pushed. Needs the extra `otel` if something is."""
        if not self.otel:
            return None
        from cascade.observe.telemetry import Telemetry

        return Telemetry(registry, self.otel_endpoint)
