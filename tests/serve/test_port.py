"""A port that is kept for processes that share it, and for nobody else."""

import socket

import pytest

from cascade.errors import CascadeError
from cascade.serve.port import reserved


def listening(port, *, shared):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        server.bind(("127.0.0.1", port))
        server.listen()
    except OSError:
        server.close()
        raise
    return server


def test_it_stays_reserved_and_only_listeners_get_connections():
    with reserved("127.0.0.1", 0) as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            listening(port, shared=False)
        with listening(port, shared=True) as first, listening(port, shared=True) as second:
            first.settimeout(0.05)
            second.settimeout(0.05)
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port)):
                    accepted = []
                    for server in (first, second):
                        try:
                            accepted.append(server.accept()[0])
                        except TimeoutError:
                            continue
                    assert len(accepted) == 1
                    accepted[0].close()
    with reserved("127.0.0.1", port) as again:
        assert again == port


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_somebody_has_is_refused_even_if_he_would_share(shared):
    with listening(0, shared=shared) as other:
        port = other.getsockname()[1]
        with pytest.raises(CascadeError, match=f"127.0.0.1:{port}.*in use"), reserved("127.0.0.1", port):
            pass


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(CascadeError, match="not this machine"), reserved("192.0.2.1", 0):
        pass


def test_every_address_of_a_name_gets_the_same_port():
    with reserved("localhost", 0) as port:
        assert port > 0
