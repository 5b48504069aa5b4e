"""The gRPC services of other standards that a server answers beside its own: *flags* -> services by contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.descriptor import ServiceDescriptor

if TYPE_CHECKING:
    from cascade.serve.auditing import Auditor
    from cascade.serve.checks import CheckService


@dataclass(frozen=True, slots=True)
class Surfaces:
    """What is answered.

    Attributes:
        envoy: the filters of Envoy, ext_proc and ext_authz.
        envoy_headers_only: they block nothing, they tell the verdict.
        open_inference: the Open Inference Protocol.
    """

    envoy: bool = False
    envoy_headers_only: bool = False
    open_inference: bool = False


def services(
    surfaces: Surfaces,
    checks: CheckService,
    auditor: Auditor | None,
    *,
    ready: Callable[[], bool],
    most: Callable[[], int],
) -> dict[ServiceDescriptor, object]:
    """The services by their contracts.

    Args:
        surfaces: which.
        checks: what judges.
        auditor: keeps records; None keeps none.
        ready: whether more may come.
        most: contents that one request may have.
    """
    found: dict[ServiceDescriptor, object] = {}
    if surfaces.envoy:
        from cascade.gateways.envoy_messages import AUTHORIZATION, EXTERNAL_PROCESSOR
        from cascade.gateways.ext_authz import Authorization
        from cascade.gateways.ext_proc import ExternalProcessor

        enforce = not surfaces.envoy_headers_only
        found[EXTERNAL_PROCESSOR] = ExternalProcessor(checks, auditor, enforce=enforce)
        found[AUTHORIZATION] = Authorization(checks, auditor, enforce=enforce)
    if surfaces.open_inference:
        from cascade.gateways import open_inference_pb2
        from cascade.gateways.open_inference import OpenInference

        contract = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        found[contract] = OpenInference(checks, auditor, ready, most)
    return found
