"""The options of ``serve`` on other protocols than its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.extras import needs_extra

if TYPE_CHECKING:
    from cascade.gateways.surfaces import Surfaces

HttpPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        help="Port for HTTP: OpenAI's /v1/moderations, /v1/check, probes, metrics and the console; 0 picks a free one. "
        "Certificates, tokens and limits are those of gRPC. Needs the extra `http`. Default: no HTTP.",
        show_default=False,
    ),
]


def require_http(port: int | None) -> None:
    """Makes sure that HTTP can be served if it is asked for.

    Raises:
        DependencyError: the extra `http` is not installed.
    """
    if port is not None:
        with needs_extra("http"):
            import cascade.gateways.listener  # noqa: F401 - missing packages are told before anything starts


Envoy = Annotated[
    bool,
    typer.Option(
        "--envoy",
        help="Answer Envoy's filters ext_proc and ext_authz (v3) on the gRPC port: requests and answers are judged on "
        "their way, and what the policy blocks gets 403.",
    ),
]
EnvoyHeadersOnly = Annotated[
    bool,
    typer.Option("--envoy-headers-only", help="With --envoy: block nothing, tell the verdict in headers x-cascade-*."),
]
OpenInference = Annotated[
    bool,
    typer.Option("--open-inference", help="Answer the Open Inference Protocol v2 (KServe, Triton) on the gRPC port."),
]


def surfaces(filters: bool, headers_only: bool, open_inference: bool) -> Surfaces:
    """What is answered beside our own contract: Envoy's filters, how they answer, the Open Inference Protocol.

    Raises:
        BadParameter: options contradict each other.
    """
    from cascade.gateways.surfaces import Surfaces

    if headers_only and not filters:
        raise typer.BadParameter("it says how --envoy answers: say that too", param_hint="--envoy-headers-only")
    return Surfaces(filters, headers_only, open_inference)
