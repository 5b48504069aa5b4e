"""Who is let in, by which way, and what is kept of it: *flags* -> ``Security``, and what a server makes of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes

import grpc
from prometheus_client import CollectorRegistry

from cascade.serve.audit import AuditFile, AuditLog, FileSettings
from cascade.serve.auditing import SALT_BYTES, Auditor, Level, OnError, read_salt
from cascade.serve.guard import Guard, by_address, by_certificate, by_token, open_guard
from cascade.serve.tls import TlsFiles, server_credentials
from cascade.serve.tokens import Tokens

MAX_METADATA_BYTES = 16 * 2**10
LIMITS = (
    # Both, since between the two gRPC draws lots about who is refused.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", 1024),  # calls of one connection; what is beyond waits at its caller
    ("grpc.server_handshake_timeout_ms", 10_000),
)


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The audit log: where it goes, what it holds, and what happens if it cannot be written."""

    file: FileSettings
    salt: Path
    level: Level = Level.METADATA
    on_error: OnError = OnError.REFUSE


@dataclass(frozen=True, slots=True)
class Security:
    """How a server is guarded.

    Attributes:
        tls: certificate and key; None to serve without encryption.
        token_file: who may call; None to let in who has a certificate, or everybody.
        public: other machines reach the server, so that whom nobody knows may not touch policies.
        audit: the audit log; None for none.
        max_streams: streams that one caller may have open at a time.
        stream_idle_s: seconds after which a stream on which nothing comes or goes is ended.
    """

    tls: TlsFiles | None = None
    token_file: Path | None = None
    public: bool = False
    audit: AuditSettings | None = None
    max_streams: int = 1000
    stream_idle_s: float = 300.0

    def guard(self) -> Guard:
        """Who is let in; see :mod:`cascade.serve.guard`.

        Raises:
            TokenFileError: the token file cannot be used.
        """
        if self.token_file is not None:
            return by_token(Tokens(self.token_file))
        if self.tls is not None and self.tls.client_ca is not None:
            return by_certificate
        return by_address if self.public else open_guard

    def open_audit_log(self) -> AuditFile | None:
        """The audit log, if there is to be one. Says loudly if it keeps texts.

        Raises:
            AuditFileError: the file cannot be written to.
        """
        if self.audit is None:
            return None
        if self.audit.level is Level.FULL:
            log.warning("the audit log keeps every text that is judged", extra={"file": str(self.audit.file.path)})
        return AuditFile(self.audit.file)

    def audit_key(self) -> bytes:
        """What the draws of the random audit are keyed with: the audit log's salt, else a secret of this server.

        While the salt stays a text is drawn each time that it comes or never, whether or not the server starts anew.

        Raises:
            AuditFileError: the salt cannot be used.
        """
        return token_bytes(SALT_BYTES) if self.audit is None else read_salt(self.audit.salt).key

    def auditor(self, audit_log: AuditLog, registry: CollectorRegistry) -> Auditor:
        """What writes to the audit log.

        Raises:
            AuditFileError: the salt cannot be used.
        """
        assert self.audit is not None, "there is an audit log"
        return Auditor(audit_log, self.audit.salt, self.audit.level, self.audit.on_error, registry)

    def listen(self, server: grpc.aio.Server, address: str) -> int:
        """Makes a server listen, and returns the port.

        Raises:
            TlsError: the certificate cannot be used.
            RuntimeError: the address cannot be used.
        """
        if self.tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, server_credentials(self.tls))
