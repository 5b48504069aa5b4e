"""``import_path: cascade.gateways.ray_serve.app:build``, *args* -> the application: ingress and, behind it, stage 2."""

from __future__ import annotations

from secrets import token_bytes
from typing import Any

from ray import serve
from ray.serve import Application

from cascade.gateways.ray_serve.ingress import Ingress
from cascade.gateways.ray_serve.replica import StageReplica
from cascade.gateways.ray_serve.settings import Settings
from cascade.serve.auditing import SALT_BYTES

# The names under which a configuration file says how each is scaled, and what it runs on.
INGRESS, STAGE2 = "Cascade", "Stage2"


def build(args: dict[str, Any]) -> Application:
    """The application; its deployments have Ray's defaults where the configuration file says nothing else.

    Args:
        args: what :class:`~cascade.gateways.ray_serve.settings.Settings` has.

    Raises:
        ValidationError: a key or value is wrong.
    """
    settings = Settings.model_validate(args)
    audit_key = token_bytes(SALT_BYTES)  # of all replicas: they draw the same texts, and so judge alike
    # Beyond max_ongoing_requests Ray's own refusal has no details; admission, which has them, is to speak first.
    ingress = serve.deployment(
        Ingress, name=INGRESS, max_ongoing_requests=1024, user_config={}, health_check_timeout_s=60
    )
    if settings.alone:
        return ingress.bind(settings, None, audit_key)
    stage2 = serve.deployment(StageReplica, name=STAGE2, max_ongoing_requests=64, health_check_timeout_s=60)
    return ingress.bind(settings, stage2.bind(settings), audit_key)
