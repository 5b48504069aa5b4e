"""``cascade health``: asks a running server whether it serves, for probes and scripts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cascade.cli.options import Server

ADDRESS = "127.0.0.1:50051"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(health)


def health(
    server: Server = ADDRESS,
    service: Annotated[
        str,
        typer.Option(
            help='What is asked for: a service by its full name, "stage1" or "stage2". Default: the server as a whole.',
            show_default=False,
        ),
    ] = "",
    timeout_s: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the answer.")] = 5.0,
) -> None:
    """Ask a running server whether it serves, by gRPC's health protocol; exit code 1 if it does not, or not in time.

    Health needs no token. Where the server has TLS, files go with the address: `grpcs://HOST:PORT?ca=FILE`, with
    `&cert=FILE&key=FILE` where it asks for a certificate, with `&name=NAME` where its own has another name than HOST.
    """
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    from stages.errors import CascadeError
    from stages.remote.client import open_channel
    from stages.remote.place import is_place, place_of

    place = place_of(server if is_place(server) else f"grpc://{server}")
    with open_channel(place) as channel:
        stub: Any = HealthStub(channel)
        try:
            answer = stub.Check(HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            raise CascadeError(f"{place.address}: {error.code().name}") from None
    status = HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != HealthCheckResponse.SERVING:
        raise CascadeError(f"{place.address}: {status}")
    print(status)
