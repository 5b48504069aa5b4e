"""*a call and its answer* -> a record of the audit log: who asked what when, and what was answered.

A record is one JSON object: ``time, method, caller, peer, code, reason, id, content[{field, bytes, hash, salt}]`` and,
where there is a verdict, ``result``, the ``CheckResponse`` in JSON. ``cascade tune --from-log`` reads those that the
random audit drew (``result.route.audited``) once somebody has added the label ``unsafe``. Text is in a record at the
level ``full`` alone, as ``request``.

A hash is BLAKE2b keyed with a salt: equal texts can be told, but nobody without the salt can try texts out on it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from prometheus_client import CollectorRegistry, Counter

from cascade.errors import AuditError, CascadeError
from cascade.jsonform import to_dict
from cascade.serve.audit import MODE, AuditFileError, AuditLog
from cascade.serve.errors import MOST_ID, code_of
from cascade.serve.identity import Call
from cascade.serve.watched import Watched
from cascade.serve.wire import Malformed
from cascade.v1.cascade_service_pb2 import ModerateStreamRequest, ModerateStreamResponse
from cascade.v1.check_pb2 import CheckRequest, CheckResponse
from cascade.v1.policy_service_pb2 import (
    RollbackPolicyResponse,
    UpdatePolicyRequest,
    UpdatePolicyResponse,
    ValidatePolicyRequest,
)
from cascade.v1.stage_service_pb2 import ScoreRequest

SALT_BYTES = 32
LEAST_SALT_BYTES, MOST_SALT_BYTES = 16, 64
HASH_BYTES = 16
WRITE_S = 10.0  # for one record: a disk that hangs must not hold calls for ever


class Level(StrEnum):
    """What a record holds."""

    METADATA = "metadata"  # everything but text: hashes of it
    FULL = "full"  # the whole request, too


class OnError(StrEnum):
    """What happens to a call whose record cannot be kept."""

    REFUSE = "refuse"  # it is UNAVAILABLE
    DROP = "drop"  # it is answered, and the record counted as lost


@dataclass(frozen=True, slots=True)
class Salt:
    """A key for hashes. Hashes of two salts cannot be compared, so that each names its own by ``id``."""

    key: bytes
    id: str


class Auditor:
    """Writes a record for each call, and for each content of a batch or stream, before it is answered."""

    def __init__(self, log: AuditLog, salt: Path, level: Level, on_error: OnError, registry: CollectorRegistry) -> None:
        """Reads the salt, or makes one.

        Raises:
            AuditFileError: the salt cannot be used.
        """
        self._log, self._level, self._on_error = log, level, on_error
        self._salt = Watched("audit salt", [salt], lambda: read_salt(salt))
        self._records = Counter(
            "cascade_audit_records",
            "Records of the audit log: written, refused with their calls, dropped.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("written", "refused", "dropped"):
            self._records.labels(outcome)

    async def record(self, method: str, call: Call, request: Message, answer: Message) -> None:
        """Writes what a request was answered.

        Raises:
            AuditError: it could not, and such calls are to be refused.
        """
        line = self._line(method, call, request, "OK", "", getattr(request, "request_id", ""))
        if isinstance(answer, CheckResponse):
            line["result"] = to_dict(answer)
        elif isinstance(answer, ModerateStreamResponse):
            line |= {"released_upto": answer.released_upto, "final": answer.final, "result": to_dict(answer.verdict)}
        elif isinstance(answer, UpdatePolicyResponse | RollbackPolicyResponse):
            line |= {"policy": answer.policy.name, "revision": answer.policy.revision}
        await self._write(line)

    async def refused(
        self, method: str, call: Call, request: Message | Malformed | None, error: Exception, request_id: str
    ) -> None:
        """Writes that a request was refused, and why. Where that fails it is counted: the call is refused anyway."""
        message = None if isinstance(request, Malformed) else request
        reason = getattr(error, "reason", CascadeError.reason)
        with suppress(AuditError):
            await self._write(self._line(method, call, message, code_of(error).name, reason, request_id))

    def generation(
        self, method: str, call: Call, send: Callable[[ModerateStreamResponse], Awaitable[None]]
    ) -> Generation:
        """Follows a generation while it is written."""
        return Generation(self, method, call, send)

    def _line(
        self, method: str, call: Call, request: Message | None, code: str, reason: str, request_id: str
    ) -> dict[str, Any]:
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": method,
            "caller": call.caller,
            "peer": call.peer,
            "code": code,
            "reason": reason,
            "id": request_id[:MOST_ID],
            "content": self._content(request),
        }
        if self._level is Level.FULL and request is not None:
            line["request"] = to_dict(request)
        return line

    async def _write(self, line: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(WRITE_S):
                await self._log.write(json.dumps(line, ensure_ascii=False).encode())
        except (AuditError, TimeoutError) as error:
            self._records.labels("dropped" if self._on_error is OnError.DROP else "refused").inc()
            if self._on_error is OnError.REFUSE:
                raise AuditError("the audit log cannot be written, and nothing is answered without") from error
        else:
            self._records.labels("written").inc()

    def _content(self, request: Message | None) -> list[dict[str, Any]]:
        salt = self._salt.get()
        found = []
        for field, text in _fields(request):
            data = text.encode()
            digest = blake2b(data, digest_size=HASH_BYTES, key=salt.key).hexdigest()
            found.append({"field": field, "bytes": len(data), "hash": digest, "salt": salt.id})
        return found


class Generation:
    """One generation: each state that is sent is recorded with what was heard since the one before."""

    def __init__(
        self,
        auditor: Auditor,
        method: str,
        call: Call,
        send: Callable[[ModerateStreamResponse], Awaitable[None]],
    ) -> None:
        self._auditor, self._method, self._call, self._send = auditor, method, call, send
        self._prompt, self._news = "", ""

    def heard(self, message: ModerateStreamRequest) -> None:
        """Takes what the caller sent."""
        if message.WhichOneof("event") == "start":
            self._prompt = message.start.prompt
        self._news += message.delta

    async def send(self, state: ModerateStreamResponse) -> None:
        """Records a state, and then sends it."""
        since = CheckRequest(request_id=state.request_id)
        since.exchange.prompt, since.exchange.response = self._prompt, self._news
        self._prompt = self._news = ""
        await self._auditor.record(self._method, self._call, since, state)
        await self._send(state)


def _fields(request: Message | None) -> Iterator[tuple[str, str]]:
    """The texts of a request by their paths."""
    if isinstance(request, CheckRequest):
        kind = request.WhichOneof("content")
        if kind == "text":
            yield "text", request.text
        elif kind == "exchange":
            yield "exchange.prompt", request.exchange.prompt
            yield "exchange.response", request.exchange.response
        elif kind == "conversation":
            for index, turn in enumerate(request.conversation.turns):
                yield f"conversation.turns[{index}].text", turn.text
    elif isinstance(request, ScoreRequest):
        for index, text in enumerate(request.texts):
            yield f"texts[{index}]", text
    elif isinstance(request, UpdatePolicyRequest | ValidatePolicyRequest):
        yield "toml", request.toml


def read_salt(path: Path) -> Salt:
    """Reads a salt; makes one where there is none.

    Raises:
        AuditFileError: it cannot be read, made or used.
    """
    try:
        if not path.exists():
            _make_salt(path)
        key = path.read_bytes()
    except OSError as error:
        raise AuditFileError(f"{path}: {error.strerror}") from None
    if not LEAST_SALT_BYTES <= len(key) <= MOST_SALT_BYTES:
        raise AuditFileError(f"{path}: a salt has {LEAST_SALT_BYTES} to {MOST_SALT_BYTES} bytes, this one {len(key)}")
    return Salt(key, blake2b(key, digest_size=4).hexdigest())


def _make_salt(path: Path) -> None:
    """Writes a new salt; it appears under its name only when it is complete, and never in place of another one."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(file, "wb") as new:
            new.write(secrets.token_bytes(SALT_BYTES))
            new.flush()
            os.fsync(new.fileno())  # an empty salt after a power cut would keep the server from starting
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
