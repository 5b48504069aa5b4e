"""Certificate and key files -> credentials of the server, for gRPC and for HTTP, which follow the files.

Both ask for the certificate at each handshake, so that new connections get the new one and open ones go on. With a
client CA, callers without a certificate of it are refused in the handshake (mutual TLS).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cascade.errors import CascadeError
from cascade.serve.watched import Watched

LOOK_EVERY_S = 0.2  # at most; a handshake costs some milliseconds anyway


class TlsError(CascadeError):
    """The certificate, the key or the client CA cannot be used."""

    reason = "TLS_UNUSABLE"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate with its chain, its unencrypted key, and the CA of callers if they must show one."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.certificate, self.key) if self.client_ca is None else (self.certificate, self.key, self.client_ca)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that present what the files say at the time of each handshake.

    Raises:
        TlsError: the files cannot be used. What becomes of them later is only logged, and the last good ones stay.
    """
    watched = Watched("certificates", files.paths, lambda: _load(files), every_s=LOOK_EVERY_S)
    shown = watched.get()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        before, shown = shown, watched.get()
        return None if shown is before else shown  # None: as before

    return grpc.dynamic_ssl_server_credentials(
        shown,
        fetch,  # type: ignore[arg-type]  # the package's types forget None
        require_client_authentication=files.client_ca is not None,
    )


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """The same for whatever serves by Python's own ``ssl``.

    Raises:
        TlsError: as :func:`server_credentials`.
    """
    return _Renewed(Watched("certificates", files.paths, lambda: _context(files), every_s=LOOK_EVERY_S))


class _Renewed(ssl.SSLContext):
    """Has each connection wrapped by the context that the files make at that time."""

    def __new__(cls, watched: Watched[ssl.SSLContext]) -> _Renewed:
        """Keeps ssl from taking the argument for a protocol."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, watched: Watched[ssl.SSLContext]) -> None:
        self._watched = watched

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """What asyncio calls for each connection."""
        return self._watched.get().wrap_bio(*arguments, **options)


def _load(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    _context(files)  # gRPC takes anything and then fails every handshake: this says what is wrong
    pair = (_read(files.key), _read(files.certificate))
    roots = _read(files.client_ca) if files.client_ca else None
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    for path in files.paths:
        _read(path)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except ssl.SSLError as error:
        why = (error.reason or "not PEM").replace("_", " ").lower()
        raise TlsError(f"{files.certificate} and {files.key} are no certificate with its key: {why}") from None
    except OSError as error:
        raise TlsError(f"{files.certificate} or {files.key} cannot be read: {error.strerror}") from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(cadata=_read(files.client_ca).decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise TlsError(f"{files.client_ca} holds no certificates in PEM") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise TlsError("the key is encrypted: a server that starts by itself needs one without a passphrase")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}") from None
