"""Calls a second, and CPU time of a text, of ``cascade serve`` and of the Ray Serve application on this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import grpc
import psutil

from cascade.v1.cascade_service_pb2 import BatchCheckRequest
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckRequest, CheckResponse
from tests.ray import cluster
from tests.ray.sessions import texts
from tests.ray.usage import Usage
from tests.serve.conftest import COMMAND, ServerProcess

SIZES = (1, 32)  # texts of a call: `Check`, and `BatchCheck` of so many
IN_FLIGHT = {1: 8, 32: 2}  # calls at a time
READY_S = 900.0
AGAIN_S = 0.1  # after a refusal; a machine that has time for this alone makes none


@dataclass(frozen=True)
class Server:
    """A server that answers: its address, and the process that has started all of it."""

    address: str
    pid: int


@contextmanager
def local(folder: Path) -> Iterator[Server]:
    """The command, with as many threads as a replica has, and no answer kept."""
    options = ["serve", "--port", "0", "--threads", "1", "--cache-entries", "0"]
    with closing(ServerProcess([*COMMAND, *options], folder, seconds=READY_S)) as server:
        yield Server(f"127.0.0.1:{server.port}", server.process.pid)


@contextmanager
def on_ray(folder: Path, replicas: int) -> Iterator[Server]:
    """The application of deploy/ray/serve.yaml with so many replicas of each deployment, on a cluster of its own."""
    command, address = cluster.application(folder, replicas)
    with cluster.started(command, folder, folder / "ray.log") as root:
        server = Server(address, root.pid)
        _wait(server, root, replicas)
        yield server


def _wait(server: Server, root: psutil.Process, replicas: int) -> None:
    """Returns when the application answers, and all its replicas are there."""
    until = time.monotonic() + READY_S
    with grpc.insecure_channel(server.address) as channel:
        check = CascadeServiceStub(channel).Check
        while root.is_running() and time.monotonic() < until:
            try:
                check(CheckRequest(text="Is the kettle on?"), timeout=60)
            except grpc.RpcError:
                time.sleep(1)
            else:
                if len(cluster.named(root, "ServeReplica:cascade:")) == 2 * replicas:
                    return
                time.sleep(1)
    raise RuntimeError("the application does not answer")


def measured(server: Server, size: int, seconds: float) -> dict[str, object]:
    """What calls of so many texts give and take, after a tenth of the time to warm up."""
    asyncio.run(_ask(server.address, size, seconds / 10))
    begun = time.perf_counter()
    with Usage(server.pid) as usage:
        answers, refused = asyncio.run(_ask(server.address, size, seconds))
    taken, done = time.perf_counter() - begun, len(answers)
    return {
        "texts_s": done / taken,
        "calls_s": done / size / taken,
        "escalated": sum(answer.route.escalated for answer in answers) / done,
        "refused": refused / (done + refused),
        "cpu_ms": {role: 1000 * used / done for role, used in usage.seconds.items()},
    }


async def _ask(address: str, size: int, seconds: float) -> tuple[list[CheckResponse], int]:
    """Calls one after the other from each of a few callers: the answers, and how many texts were refused."""
    requests = cycle([CheckRequest(text=text) for text in texts(1000, 32)])
    until, refused = time.perf_counter() + seconds, 0
    answers: list[CheckResponse] = []

    async def call() -> None:
        nonlocal refused
        while time.perf_counter() < until or not answers:
            own = [next(requests) for _ in range(size)]
            try:
                if size == 1:
                    found = [await stub.Check(own[0], timeout=60)]
                else:
                    batch = await stub.BatchCheck(BatchCheckRequest(requests=own), timeout=60)
                    found = [item.response for item in batch.items if item.HasField("response")]
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                found = []
            answers.extend(found)
            if len(found) < size:
                refused += size - len(found)
                await asyncio.sleep(AGAIN_S)

    async with grpc.aio.insecure_channel(address) as channel:
        stub = CascadeServiceStub(channel)
        await asyncio.gather(*(call() for _ in range(IN_FLIGHT[size])))
    if bad := sum(answer.degraded for answer in answers):
        raise RuntimeError(f"{bad} of {len(answers)} texts were not judged by the whole cascade")
    return answers, refused
