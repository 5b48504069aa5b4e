"""The options of ``serve`` that guard it: who is let in, by which way, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cascade.serve.endpoint import Endpoint
    from cascade.serve.security import AuditSettings
    from cascade.serve.tls import TlsFiles


class AuditLevel(StrEnum):
    """What the audit log holds."""

    off = "off"
    metadata = "metadata"
    full = "full"


class AuditFsync(StrEnum):
    """When the disk must have a record."""

    always = "always"
    interval = "interval"
    never = "never"


class AuditOnError(StrEnum):
    """What happens to calls whose records cannot be kept."""

    refuse = "refuse"
    drop = "drop"


InsecurePublic = Annotated[
    bool,
    typer.Option(
        "--insecure-public",
        help="Listen on an address that other machines reach although there is no TLS: the network itself is guarded, "
        "or a proxy in front has it. Holds for the metrics, too.",
    ),
]
InsecureMetrics = Annotated[
    bool,
    typer.Option(
        "--insecure-metrics",
        help="Serve the metrics on an address that other machines reach: they are never encrypted.",
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        help="Serve with TLS: the certificate with its chain, PEM. A new one in this file is used without a restart.",
        show_default=False,
    ),
]
TlsKey = Annotated[Path | None, typer.Option(help="Key of the certificate, PEM, unencrypted.", show_default=False)]
TlsClientCa = Annotated[
    Path | None,
    typer.Option(help="Let in only callers with a certificate of this CA, PEM (mutual TLS).", show_default=False),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="Let in only callers with a token of this file, as `cascade token new` writes it. What changes in it "
        "holds without a restart.",
        show_default=False,
    ),
]
MaxStreams = Annotated[int, typer.Option(min=1, help="Streams that one caller may have open, in each worker.")]
StreamIdleS = Annotated[
    float, typer.Option(min=0.1, help="Seconds after which a stream on which nothing comes or goes is ended.")
]
AuditLog = Annotated[
    Path | None,
    typer.Option(
        help="Write a record of every answer to this file, JSONL, before it is given. Full files are put aside as "
        "FILE.000001 and so on.",
        show_default=False,
    ),
]
AuditLevelOption = Annotated[
    AuditLevel,
    typer.Option(help="What a record holds: metadata has scores, callers and salted hashes; full has the texts, too."),
]
AuditFsyncOption = Annotated[
    AuditFsync,
    typer.Option(
        help="When the disk must have a record: before the answer, within a second, or when the system sees fit. "
        "Records outlive the server's death at any of them, a power cut at the first only."
    ),
]
AuditMaxMb = Annotated[int, typer.Option(min=1, help="Megabytes at which a file of the audit log is full.")]
AuditKeep = Annotated[int, typer.Option(min=0, help="Full files of the audit log that are kept; 0 keeps all.")]
AuditOnErrorOption = Annotated[
    AuditOnError,
    typer.Option(help="What happens if a record cannot be written, say on a full disk: the call is refused as "
                 "UNAVAILABLE, or answered and the record counted as dropped."),
]  # fmt: skip
AuditSalt = Annotated[
    Path | None,
    typer.Option(
        help="File of 16 to 64 secret bytes that the hashes of the audit log are keyed with; made if there is none. "
        "Default: the audit log's name with .salt.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Audit:
    """The options of the audit log as they were given."""

    file: Path | None
    level: AuditLevel
    fsync: AuditFsync
    max_mb: int
    keep: int
    on_error: AuditOnError
    salt: Path | None

    def settings(self) -> AuditSettings | None:
        """The same for the server; None if there is to be no audit log."""
        from cascade.serve.audit import FileSettings, Fsync
        from cascade.serve.auditing import Level, OnError
        from cascade.serve.security import AuditSettings

        if self.file is None or self.level is AuditLevel.off:
            return None
        return AuditSettings(
            file=FileSettings(self.file.absolute(), self.max_mb * 1_000_000, self.keep, Fsync(self.fsync.value)),
            salt=(self.salt or self.file.with_name(f"{self.file.name}.salt")).absolute(),
            level=Level(self.level.value),
            on_error=OnError(self.on_error.value),
        )


def check_public(endpoint: Endpoint, cert: Path | None, insecure_public: bool, insecure_metrics: bool) -> None:
    """Refuses addresses that other machines reach, if nothing is encrypted and nobody has said that it may be so.

    Raises:
        BadParameter: that is the case.
    """
    if endpoint.is_public and cert is None and not insecure_public:
        raise typer.BadParameter(
            f"{endpoint.host} can be reached from other machines: serve with --tls-cert and --tls-key, or say "
            "--insecure-public if the network itself is guarded or a proxy in front has TLS",
            param_hint="--host",
        )
    if endpoint.has_public_metrics and not (insecure_public or insecure_metrics):
        raise typer.BadParameter(
            f"{endpoint.metrics_host} can be reached from other machines, and the metrics are plain HTTP for whoever "
            "does: say --insecure-metrics if the network itself is guarded",
            param_hint="--metrics-host",
        )


def tls_files(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """What TLS is made of; None if there is to be none.

    Raises:
        BadParameter: something is missing.
    """
    from cascade.serve.tls import TlsFiles

    if (cert is None) != (key is None):
        raise typer.BadParameter("a certificate and its key go together", param_hint="--tls-cert, --tls-key")
    if cert is None or key is None:
        if client_ca is not None:
            raise typer.BadParameter("certificates are shown in TLS: say --tls-cert, too", param_hint="--tls-client-ca")
        return None
    return TlsFiles(cert.absolute(), key.absolute(), client_ca.absolute() if client_ca else None)
