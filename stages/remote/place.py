"""Where a stage on another machine is, in one string: *address* -> target, part, and how its connection is guarded.

    grpc://127.0.0.1:50051                            in the clear: this machine only
    grpcs://gpu.example:50051/stage2?ca=ca.pem&token_file=token
    grpc://10.0.0.7:50051?insecure=yes                in the clear over a network that is guarded otherwise

The path names the part that the model plays there, "stage2" if there is none. ``ca`` replaces the system's authorities;
``cert`` and ``key`` are what the client shows of itself; ``token_file`` holds the token of a caller with scope "check".
``name`` is the name that the server's certificate has, where that is not the host's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from stages.errors import ModelError

SCHEMES = ("grpc", "grpcs")
FILES = ("ca", "cert", "key", "token_file")
PARTS = ("stage1", "stage2")


@dataclass(frozen=True)
class Place:
    """A stage's address.

    Attributes:
        address: what may be shown of it.
        target: as gRPC names it.
        part: the part that the model plays there.
        secure: whether the connection is TLS's; ``ca``, ``key`` and ``cert`` are its PEM files' contents, if given.
        name: the name that the server's certificate has to have; empty for the host's.
        metadata: goes with each call.
    """

    address: str
    target: str
    part: str = "stage2"
    secure: bool = False
    ca: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    name: str = ""
    metadata: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def is_place(spec: str) -> bool:
    """Whether a model is named by an address."""
    return spec.partition("://")[0] in SCHEMES and "://" in spec


def place_of(spec: str) -> Place:
    """The place that an address names; reads the files that it names.

    Raises:
        ModelError: it is no such address, a file cannot be read, or texts would travel in the clear.
    """
    url = urlsplit(spec)
    address = f"{url.scheme}://{url.netloc.rpartition(chr(64))[2]}"
    try:
        options, port = dict(parse_qsl(url.query, strict_parsing=bool(url.query))), url.port
    except ValueError as error:
        raise ModelError(f"{address}: {error}") from None
    part = url.path.strip("/") or "stage2"
    unknown = sorted(options.keys() - {*FILES, "name", "insecure"})
    if not url.hostname or port is None or url.username is not None or url.fragment or unknown or part not in PARTS:
        what = f"{unknown[0]!r} is no option" if unknown else "SCHEME://HOST:PORT[/stage1][?option=value] is wanted"
        raise ModelError(f"{address}: {what}, with the options {', '.join(FILES)}, name and insecure=yes")
    secure = url.scheme == "grpcs"
    if not secure and options.keys() & {"ca", "cert", "key", "name"}:
        raise ModelError(f"{address}: certificates belong to grpcs://")
    if not secure and options.get("insecure") != "yes" and not _is_loopback(url.hostname):
        raise ModelError(f"{address}: texts would travel in the clear; take grpcs://, or say ?insecure=yes")
    if ("cert" in options) != ("key" in options):
        raise ModelError(f"{address}: cert and key go together")
    read = {name: _read(address, Path(options[name])) for name in FILES if name in options}
    token = read.get("token_file", b"").decode("ascii", "replace").strip()
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    ca, key, cert = (read.get(kind) for kind in ("ca", "key", "cert"))
    return Place(address, url.netloc, part, secure, ca, key, cert, options.get("name", ""), metadata)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _read(address: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{address}: {path}: {error.strerror}") from None
