"""The same inputs against a running server: none of them may be its fault, end it, or keep a caller waiting."""

from __future__ import annotations

import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from hypothesis import strategies as st

from cascade.v1.cascade_service_pb2 import BatchCheckResponse, CheckStreamResponse
from cascade.v1.check_pb2 import CheckRequest, CheckResponse
from tests.fuzz import inputs
from tests.fuzz.engine import fuzz
from tests.serve.conftest import COMMAND, ServerProcess

CODE = grpc.StatusCode
AT_ONCE = 8
WAIT_S = 60
FAULTS = (CODE.INTERNAL, CODE.UNKNOWN, CODE.DEADLINE_EXCEEDED, CODE.UNAVAILABLE, CODE.DATA_LOSS)
# To reload models is work that a message without fields asks for, and no input makes it other work.
METHODS = {name: method for name, method in inputs.METHODS.items() if method.name != "ReloadModels"}

Case = tuple[str, list[bytes]]


def cases(name: str) -> st.SearchStrategy[Case]:
    """Calls of one method: its name and the bytes of its message or messages."""
    method = METHODS[name]
    one = inputs.messages(message_factory.GetMessageClass(method.input_type))
    return st.tuples(st.just(name), st.lists(one, min_size=1, max_size=3 if method.client_streaming else 1))


CALLS = st.lists(st.sampled_from(sorted(METHODS)).flatmap(cases), min_size=AT_ONCE, max_size=AT_ONCE)


class Sender:
    """Sends calls to a server, several at once, and looks at what comes back; ``codes`` counts it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.codes: Counter[str] = Counter()

    def send(self, calls: Sequence[Case]) -> None:
        """Sends them all, then waits for all."""
        for name, under_way in [(name, self._begin(name, sent)) for name, sent in calls]:
            code = self._end(name, under_way)
            assert code not in FAULTS, f"{name}: {code.name}"
            self.codes[code.name] += 1

    def _begin(self, name: str, sent: list[bytes]) -> Any:
        if METHODS[name].client_streaming:
            return self._channel.stream_stream(f"/{name}")(iter(sent), timeout=WAIT_S)
        return self._channel.unary_unary(f"/{name}").future(sent[0], timeout=WAIT_S)

    def _end(self, name: str, under_way: Any) -> grpc.StatusCode:
        try:
            answers = list(under_way) if METHODS[name].client_streaming else [under_way.result()]
        except grpc.RpcError:
            code: grpc.StatusCode = under_way.code()
            return code
        for answer in answers:
            for error in item_errors(name, answer):
                assert error not in [code.value[0] for code in FAULTS], f"{name}: an item has code {error}"
        return CODE.OK


def item_errors(name: str, answer: bytes) -> list[int]:
    """The codes of what was refused inside an answer."""
    if name.endswith("/BatchCheck"):
        return [item.error.code for item in BatchCheckResponse.FromString(answer).items if item.HasField("error")]
    if name.endswith("/CheckStream"):
        item = CheckStreamResponse.FromString(answer)
        return [item.error.code] if item.HasField("error") else []
    return []


def fuzz_channel(channel: grpc.Channel, total: int, first: int) -> tuple[Counter[str], list[str]]:
    """So many calls over a channel: their codes, and what failed."""
    sender, number = Sender(channel), first
    while (left := total - sum(sender.codes.values())) > 0:
        before = sum(sender.codes.values())
        try:
            fuzz(sender.send, CALLS, -(-min(left, 4000) // AT_ONCE), number)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
            return sender.codes, ["".join([f"live, seed {number}\n", *traceback.format_exception(error)])]
        assert sum(sender.codes.values()) > before, "no inputs were made"
        number += 1
    return sender.codes, []


def fuzz_server(total: int, first: int, command: Sequence[str] = (*COMMAND, "serve", "--port", "0")) -> Any:
    """Starts a server, by default the real command, fuzzes it, and sees that it still answers and stops in order."""
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess([*command], Path(folder), seconds=300)
        try:
            codes, failures = fuzz_channel(server.channel, total, first)
            check = server.channel.unary_unary("/cascade.v1.CascadeService/Check")
            answer = check(CheckRequest(text="Is anybody there?").SerializeToString(), timeout=WAIT_S)
            assert CheckResponse.FromString(answer).verdict, "it has judged"
        finally:
            server.close()
        failures += [line for line in server.log.read_text().splitlines() if '"level": "error"' in line]
    return codes, failures
