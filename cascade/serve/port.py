"""A port that several processes share: bound by the supervisor, so that it stays theirs while none of them listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cascade.errors import CascadeError


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Reserves a port, a free one for 0, for sockets of this user that set SO_REUSEPORT, and gives its number.

    No connection goes to the reserving sockets, since they do not listen.

    Raises:
        CascadeError: the port is in use, or the address is not this machine's.
    """
    with ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in found:
                where = (address[0], port, *address[2:])
                taken = stack.enter_context(_take(family, kind, protocol, where))
                port = taken.getsockname()[1]
        except OSError:
            raise CascadeError(
                f"cannot listen on {host}:{port}: the port is in use, or the address is not this machine's. "
                "Choose another with --port (0 picks a free one) or --host."
            ) from None
        yield port


def _take(family: int, kind: int, protocol: int, where: tuple[object, ...]) -> socket.socket:
    if where[1]:
        _bind(family, kind, protocol, where, shared=False).close()  # to share it would hide whoever has it
    try:
        return _bind(family, kind, protocol, where, shared=True, reused=False)
    except OSError:  # connections of an earlier server may linger: nobody listens, as was seen just now
        return _bind(family, kind, protocol, where, shared=True)


def _bind(
    family: int, kind: int, protocol: int, where: tuple[object, ...], *, shared: bool, reused: bool = True
) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reused))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(where)
    except OSError:
        bound.close()
        raise
    return bound
