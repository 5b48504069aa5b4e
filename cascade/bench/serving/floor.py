"""What no server of this model can beat here: a bare loop over ``session.run``, alone on the server's core.

The loop reads no text, waits for nobody and answers nobody. So that it has the same neighbour as a server has, the
other core meanwhile sends the arrivals that a server would get to an echo server of gRPC, which answers them at once.
The batch is the one that is best for the loop: texts sorted by length within a chunk, so that little is padding.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np

from cascade.bench.serving.process import ServerFailedError, on_cores

BATCHES = (1, 2, 4, 8, 16)
CHUNK = 256  # texts that are sorted by length together: what a server under heavy load could at best look at
LENGTHS = 24  # at which the bare time of a text is measured
REPEATS = 5


@dataclass(frozen=True, slots=True)
class BareTimes:
    """Milliseconds that the bare session takes for texts of some lengths, ascending; straight lines between them."""

    tokens: tuple[int, ...]
    ms: tuple[float, ...]

    def of(self, tokens: int) -> float:
        """For a text of so many tokens."""
        return float(np.interp(tokens, self.tokens, self.ms))


class Floor:
    """A process that runs the bare session on the server's cores; its methods return when it has measured."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def bare_times(self, texts: Sequence[str]) -> BareTimes:
        """The median time of each text by itself, all its windows."""
        tokens, ms = await self._ask("bare", list(texts))
        return BareTimes(tuple(tokens), tuple(ms))

    async def loop(self, texts: Sequence[str], seconds: float, batches: Sequence[int] = BATCHES) -> dict[int, float]:
        """Texts a second by batch size; ``seconds`` for each, over the texts again and again."""
        found: dict[int, float] = await self._ask("loop", list(texts), seconds, tuple(batches))
        return found

    async def _ask(self, *question: object) -> Any:
        self._pipe.send(question)
        kind, answer = await asyncio.to_thread(self._pipe.recv)
        if kind == "failed":
            raise ServerFailedError(f"the bare loop failed: {answer}")
        return answer


@asynccontextmanager
async def floor(model: str, cores: frozenset[int] | None) -> AsyncIterator[Floor]:
    """The bare loop over a model, on some cores.

    Raises:
        ServerFailedError: it cannot be run.
    """
    with _child(_run_loop, cores, model) as pipe:
        yield Floor(pipe)


@asynccontextmanager
async def echo_server(cores: frozenset[int] | None) -> AsyncIterator[str]:
    """An echo server of gRPC in a process of its own; gives its address."""
    with _child(_run_echo, cores) as pipe:
        yield f"127.0.0.1:{await asyncio.to_thread(pipe.recv)}"


class _child:
    """A spawned process on some cores, ended in the end; gives this side's end of a pipe to it."""

    def __init__(self, target: Callable[..., None], cores: frozenset[int] | None, *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self._cores, self._theirs = cores, theirs

    def __enter__(self) -> Connection:
        with on_cores(self._cores):
            self._process.start()
        self._theirs.close()  # so that the end of the process is the end of the pipe
        return self._pipe

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _run_echo(pipe: Connection) -> None:
    import grpc

    async def serve() -> None:
        async def echo(request: bytes, context: object) -> bytes:
            return request

        server = grpc.aio.server()
        handler: Any = grpc.unary_unary_rpc_method_handler(echo)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo.Echo", {"Echo": handler})])
        pipe.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def _run_loop(pipe: Connection, model: str) -> None:
    from stages.errors import CascadeError

    try:
        loop = BareLoop(model)
        while True:
            kind, *arguments = pipe.recv()
            pipe.send((kind, getattr(loop, kind)(*arguments)))
    except CascadeError as error:
        pipe.send(("failed", str(error)))


class BareLoop:
    """The session of a model folder and its tokenizer, without anything around them.

    Raises:
        ModelError: it is no folder with an exported network of two outputs.
    """

    def __init__(self, model: str) -> None:
        from stages.encoder import MODEL
        from stages.errors import ModelError
        from stages.manifest import Manifest
        from stages.registry import load_stage, resolve
        from stages.runtime.onnx import OnnxNetwork, output_names

        folder = resolve(model)
        path = folder / MODEL
        others = sorted(output_names(path) - {"binary_logit"})
        if len(others) != 1:
            raise ModelError(f"{path}: not one output beside binary_logit")
        self._network = OnnxNetwork(path, ("binary_logit", others[0]), pad_id=Manifest.load(folder).pad_id)
        self._encode = load_stage(model).encode

    def bare(self, texts: Sequence[str]) -> tuple[list[int], list[float]]:
        """Tokens and median milliseconds of each text, its windows one after the other, by length."""
        found = []
        for text in texts:
            encoding = self._encode(text)
            times = []
            for _ in range(REPEATS):
                before = time.perf_counter()
                for window in encoding.windows:
                    self._network.run([window])
                times.append(1e3 * (time.perf_counter() - before))
            found.append((encoding.tokens, median(times)))
        found.sort()
        return [tokens for tokens, _ in found], [ms for _, ms in found]

    def loop(self, texts: Sequence[str], seconds: float, batches: Sequence[int]) -> dict[int, float]:
        """Texts a second by batch size."""
        encoded = [self._encode(text).windows for text in texts]
        return {batch: self._throughput(encoded, seconds, batch) for batch in batches}

    def _throughput(self, encoded: Sequence[Sequence[Any]], seconds: float, batch: int) -> float:
        jobs = []
        for first in range(0, len(encoded), CHUNK):
            chunk = encoded[first : first + CHUNK]
            windows = sorted((window for windows in chunk for window in windows), key=len)
            batched = [windows[start : start + batch] for start in range(0, len(windows), batch)]
            jobs.append((len(chunk), batched))
        done, started = 0, time.perf_counter()
        # Whole rounds over all texts only: half a round would be another mix.
        while (passed := time.perf_counter() - started) < seconds:
            for count, batched in jobs:
                for windows in batched:
                    self._network.run(windows)
                done += count
        return done / passed if done else 0.0
