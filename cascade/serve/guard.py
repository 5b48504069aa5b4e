"""*a call's metadata, certificate and address* -> Identity, and whether it may call this method.

Methods and the scopes that they need:

    CascadeService, StageService    check
    PolicyService                   policy
    ModelService                    none, but the caller must be known; admin to have models loaded
    Envoy's filters                 check
    Open Inference                  check to infer; for the rest the caller must be known
    metrics on the HTTP port        none, but the caller must be known
    health, reflection              open to whoever can connect: probes carry no token, and the contract is public

With a token file every call needs a token of it. Without one a caller is known by its certificate, and may do
everything, if there is a client CA; else by its address: it may do everything on a server that other machines do not
reach, and ``check`` alone on one that they do.
"""

from __future__ import annotations

from collections.abc import Callable

from cascade.errors import PermissionDeniedError, UnauthenticatedError
from cascade.serve.identity import Context, Identity, Scope, address_of
from cascade.serve.tokens import Tokens

METADATA_KEY = "authorization"
SCHEME = "bearer"
SCOPES: dict[str, Scope | None] = {  # of a service, or of one of its methods
    "cascade.v1.CascadeService": Scope.CHECK,
    "cascade.v1.StageService": Scope.CHECK,
    "cascade.v1.PolicyService": Scope.POLICY,
    "cascade.v1.ModelService": None,
    "cascade.v1.ModelService/ReloadModels": Scope.ADMIN,
    "envoy.service.auth.v3.Authorization": Scope.CHECK,
    "envoy.service.ext_proc.v3.ExternalProcessor": Scope.CHECK,
    "inference.GRPCInferenceService": None,
    "inference.GRPCInferenceService/ModelInfer": Scope.CHECK,
    "cascade.http/Metrics": None,
}

Guard = Callable[[Context, str], Identity]  # takes "SERVICE/METHOD"; raises for whom it does not let in


def open_guard(context: Context, method: str) -> Identity:
    """Lets everybody do everything: for what only this machine's processes reach."""
    return Identity(address_of(context.peer()))


def by_token(tokens: Tokens) -> Guard:
    """A guard that asks for a bearer token, and for the scope that the service needs."""

    def guard(context: Context, method: str) -> Identity:
        return _admit(tokens.identify(_bearer(context)), method)

    return guard


def by_certificate(context: Context, method: str) -> Identity:
    """Names callers by their certificates, which the handshake has checked: the first name in it, or its subject."""
    found = context.auth_context()
    for key in ("x509_subject_alternative_name", "x509_common_name", "x509_subject"):
        for name in found.get(key, ()):
            return Identity(name.decode("utf-8", "replace"))
    raise UnauthenticatedError("the certificate names nobody")


def by_address(context: Context, method: str) -> Identity:
    """Lets everybody have texts judged, and nothing else."""
    return _admit(Identity(address_of(context.peer()), frozenset({Scope.CHECK})), method)


def scope_of(method: str) -> Scope | None:
    """What a method needs; what nobody has thought of needs everything."""
    service, _, _ = method.partition("/")
    return SCOPES.get(method, SCOPES.get(service, Scope.ADMIN))


def _admit(identity: Identity, method: str) -> Identity:
    scope = scope_of(method)
    if not identity.may(scope):
        raise PermissionDeniedError(f"{method} needs the scope {scope!s}", scope=str(scope))
    return identity


def _bearer(context: Context) -> str:
    values = [value for key, value in context.invocation_metadata() or () if key == METADATA_KEY]
    if not values:
        raise UnauthenticatedError("a token is wanted: send it in the metadata as `authorization: Bearer TOKEN`")
    if len(values) > 1 or not isinstance(values[0], str):
        raise UnauthenticatedError("more than one authorization was sent")
    scheme, _, token = values[0].strip().partition(" ")
    if scheme.lower() != SCHEME or not token.strip():
        raise UnauthenticatedError("the authorization is not of the form `Bearer TOKEN`")
    return token.strip()
