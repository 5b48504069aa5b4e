"""Ports: one that several processes share is bound by the supervisor, so that it stays theirs while none listens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from cascade.errors import CascadeError


@contextmanager
def reserved(host: str, port: int, *, option: str = "--port") -> Iterator[int]:
    """Reserves a port, a free one for 0, for sockets of this user that set SO_REUSEPORT, and gives its number.

    No connection goes to the reserving sockets, since they do not listen. ``option`` is where another port is said.

    Raises:
        CascadeError: the port is in use, or the address is not this machine's.
    """
    sockets = _on_each(host, port, _take, option)
    try:
        yield int(sockets[0].getsockname()[1])
    finally:
        for taken in sockets:
            taken.close()


def bound(host: str, port: int, *, shared: bool, option: str) -> Sequence[socket.socket]:
    """Sockets to listen on, one for each address of the host; other processes may have the port, too, if it is shared.

    Raises:
        CascadeError: as :func:`reserved`.
    """
    return _on_each(host, port, partial(_bind, shared=shared), option)


def _on_each(host: str, port: int, bind: Callable[..., socket.socket], option: str) -> Sequence[socket.socket]:
    """A socket of the same port on each address of a host."""
    with ExitStack() as stack:
        sockets = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in found:
                taken = stack.enter_context(bind(family, kind, protocol, (address[0], port, *address[2:])))
                sockets.append(taken)
                port = taken.getsockname()[1]
        except OSError:
            raise CascadeError(
                f"cannot listen on {host}:{port}: the port is in use, or the address is not this machine's. "
                f"Choose another with {option} (0 picks a free one) or --host."
            ) from None
        stack.pop_all()
        return sockets


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
