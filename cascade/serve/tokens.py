"""Bearer tokens: *token file* -> who may what. The file holds hashes alone: who reads it cannot call.

    # TOML, a line a token, as `cascade token new` writes it
    ci = { sha256 = "9f86…0a08", scopes = ["check"], rate = 50.0, daily = 100000, expires = 2027-01-01 }

A token is 256 random bits, so that a plain SHA-256 is enough: salts and slow hashes are for passwords, which can be
guessed.
"""

from __future__ import annotations

import hmac
import re
import secrets
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cascade.errors import CascadeError, UnauthenticatedError
from cascade.serve.identity import Identity, Quota, Scope
from cascade.serve.watched import Watched

PREFIX = "cascade_"  # so that scanners for leaked secrets can know one
BYTES = 32
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class TokenFileError(CascadeError):
    """The token file cannot be used."""

    reason = "TOKEN_FILE_UNUSABLE"


class Entry(BaseModel):
    """A line of the token file. ``expires`` is the first day (UTC) on which the token is no longer taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    daily: Annotated[int, Field(gt=0)] | None = None
    expires: date | None = None

    def line(self, name: str) -> str:
        """The line for the file, without its end."""
        scopes = ", ".join(f'"{scope}"' for scope in sorted(self.scopes))
        keys = [f'sha256 = "{self.sha256}"', f"scopes = [{scopes}]"]
        bounds = {"rate": self.rate, "daily": self.daily, "expires": self.expires}
        keys += [f"{key} = {value}" for key, value in bounds.items() if value is not None]
        return f"{name} = {{ {', '.join(keys)} }}"


@dataclass(frozen=True, slots=True)
class Known:
    """A token that the file knows."""

    digest: bytes
    identity: Identity
    expires: date | None


class Tokens:
    """The tokens of a file, which is read again when it changes. Safe to use from any thread."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            TokenFileError: it cannot be used.
        """
        self._watched = Watched("token file", [path], lambda: read(path))

    def identify(self, token: str) -> Identity:
        """Who shows this token.

        Raises:
            UnauthenticatedError: nobody that the file knows, or not any more.
        """
        digest = _digest(token)
        found = None
        for known in self._watched.get():  # all of them, each compared in constant time: the time tells nothing
            if hmac.compare_digest(known.digest, digest):
                found = known
        if found is None:
            raise UnauthenticatedError("the bearer token is not known")
        if found.expires is not None and datetime.now(UTC).date() >= found.expires:
            raise UnauthenticatedError("the bearer token has expired")
        return found.identity


def new(scopes: Sequence[Scope], rate: float | None, daily: int | None, expires: date | None) -> tuple[str, Entry]:
    """A new token, and the entry that knows it."""
    token = PREFIX + secrets.token_urlsafe(BYTES)
    digest = _digest(token).hex()
    return token, Entry(sha256=digest, scopes=frozenset(scopes), rate=rate, daily=daily, expires=expires)


def read(path: Path) -> tuple[Known, ...]:
    """Reads a token file.

    Raises:
        TokenFileError: it cannot be read, is no TOML, a line is wrong, or two names have one token.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenFileError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or a number that Python does not read
        raise TokenFileError(f"{path}: {error}") from None
    known = []
    for name, keys in tree.items():
        if not NAME.fullmatch(name):
            raise TokenFileError(f"{path}: {name!r} is no name: a letter, then up to 63 letters, digits, - or _")
        try:
            entry = Entry.model_validate(keys)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join([name, *map(str, fault["loc"])])
            raise TokenFileError(f"{path}: {where}: {fault['msg']}") from None
        identity = Identity(name, entry.scopes, Quota(entry.rate, entry.daily))
        known.append(Known(bytes.fromhex(entry.sha256), identity, entry.expires))
    if len({token.digest for token in known}) < len(known):
        raise TokenFileError(f"{path}: two names have the same token")
    return tuple(known)


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
