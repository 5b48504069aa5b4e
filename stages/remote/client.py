"""The Stage protocol over gRPC: *text* -> windows, here -> ids over the wire -> *logits*."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import grpc

from cascade.v1.stage_service_pb2 import DescribeRequest, DescribeResponse
from cascade.v1.stage_service_pb2_grpc import StageServiceStub
from stages.errors import ModelError, StageError, StageUnavailableError
from stages.remote import wire
from stages.remote.described import DescribedStage
from stages.remote.place import Place, place_of
from stages.stage import ModelInfo, Window, WindowScores

OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # a tokenizer of a large vocabulary has tens of megabytes
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    # A machine that vanished answers no ping: calls to it end, and new connections are tried, within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
CONNECT_S = 10.0


@dataclass(frozen=True)
class _Connection:
    """Where the process is, a channel to it, what may be called on it, and the halvings that were counted so far."""

    target: str
    channel: grpc.Channel
    stub: Any
    halvings: list[int]


def open_channel(place: Place, target: str = "") -> grpc.Channel:
    """A channel to a place, or to another target that is reached in its way."""
    if place.secure:
        credentials = grpc.ssl_channel_credentials(place.ca, place.key, place.cert)
        named = (("grpc.ssl_target_name_override", place.name),) if place.name else ()
        return grpc.secure_channel(target or place.target, credentials, OPTIONS + named)
    return grpc.insecure_channel(target or place.target, OPTIONS)


class RemoteStage(DescribedStage):
    """A stage that another process serves; texts are cut here, by the tokenizer that it describes itself with.

    Attributes:
        batch_tokens: the work, in tokens, that one call had best have.
        hangs: a call has had no answer in time, and no other has had one since.
        on_hang: called with the target, on the thread of a call that has had no answer in time.
        oom_halvings: batches that it has halved for lack of memory, over all its lives.

    Args:
        target: where it is, as gRPC names it, "unix:PATH" or "HOST:PORT", or a place on another machine.
        name: which of the stages there: "stage1" or "stage2".
        timeout_s: what one call may take.
        batch_tokens: see above; None takes what suits its device: a GPU wants many tokens at once.

    Raises:
        StageUnavailableError: there is nobody there.
        ModelError: its tokenizer has no form that can be used here.
    """

    def __init__(
        self, target: str | Place, name: str, *, timeout_s: float = 120.0, batch_tokens: int | None = None
    ) -> None:
        self.hangs = False
        self.on_hang: Callable[[str], None] = lambda target: None
        self.oom_halvings = 0
        self._name, self._timeout_s = name, timeout_s
        self._place = target if isinstance(target, Place) else Place("", target)
        self._counting = Lock()
        self._connection, described = self._connect(self._place.target)
        try:
            super().__init__(self._to_info(described), described, batch_tokens)
        except ModelError:
            self.close()
            raise

    @property
    def target(self) -> str:
        """Where it is now."""
        return self._connection.target

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        """See :meth:`stages.stage.Stage.score`.

        Raises:
            ModelError: a window asks for an adapter that the model does not have.
            StageUnavailableError: the process cannot be reached.
            StageError: it failed, or took too long.
        """
        connection = self._connection
        request = wire.to_request(self._name, windows)
        try:
            response = connection.stub.Score(request, timeout=self._timeout_s, metadata=self._place.metadata)
        except grpc.RpcError as error:
            raise self._failure(error, connection.target) from None
        except ValueError:  # grpc's word for a channel that reconnect() has just closed
            raise StageUnavailableError(f"{self._info.name}: its process was replaced during the call") from None
        scores = wire.to_scores(self._info, len(windows), response)
        self.hangs = False
        self._count(connection, response.oom_halvings)
        return scores

    def reconnect(self, target: str) -> None:
        """Goes on with another process that serves the same model.

        Raises:
            StageUnavailableError: there is nobody there.
            ModelError: it serves another model; the stage stays as it was.
        """
        connection, described = self._connect(target)
        found = self._to_info(described)
        if found != self._info:
            connection.channel.close()
            raise ModelError(f"{found.name}@{found.revision} is there now, not {self._info.name}@{self._info.revision}")
        before, self._connection, self.hangs = self._connection, connection, False
        before.channel.close()

    def close(self) -> None:
        """Ends the connection; calls under way fail."""
        self._connection.channel.close()

    def _connect(self, target: str) -> tuple[_Connection, DescribeResponse]:
        place, request = self._place, DescribeRequest(stage=self._name)
        channel = open_channel(place, target)
        stub: Any = StageServiceStub(channel)
        try:
            described = stub.Describe(request, wait_for_ready=True, timeout=CONNECT_S, metadata=place.metadata)
        except grpc.RpcError as error:
            channel.close()
            raise StageUnavailableError(f"{target}: no {self._name} to be had there ({_code(error).name})") from None
        return _Connection(target, channel, stub, [0]), described

    def _to_info(self, described: DescribeResponse) -> ModelInfo:
        """What the model is; on another machine its device is that machine's address."""
        info = wire.to_info(described)
        return replace(info, device=self._place.address) if self._place.address else info

    def _failure(self, error: grpc.RpcError, target: str) -> StageError | ModelError:
        code = _code(error)
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            return StageUnavailableError(f"{self._info.name}: its process cannot be reached")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            self.hangs = True
            self.on_hang(target)
            return StageError(f"{self._info.name}: no answer within {self._timeout_s:g} s")
        if code is grpc.StatusCode.NOT_FOUND:
            return ModelError(f"{self._info.name} has no such adapter")
        return StageError(f"{self._info.name}: {code.name} from its process")

    def _count(self, connection: _Connection, halvings: int) -> None:
        """Adds what is new; each process counts from 0. Answers may come out of order, hence the comparison."""
        with self._counting:
            known = connection.halvings[0]
            if halvings > known:
                connection.halvings[0] = halvings
                self.oom_halvings += halvings - known


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


def open_remote(spec: str) -> RemoteStage:
    """The stage at an address as :mod:`stages.remote.place` describes it.

    Raises:
        ModelError: the address is not one, or the tokenizer there has no form that can be used here.
        StageUnavailableError: there is nobody there, or whoever is there does not let this caller in.
    """
    place = place_of(spec)
    return RemoteStage(place, place.part)
