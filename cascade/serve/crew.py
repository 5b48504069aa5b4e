"""One worker process, as its supervisor sees it: *spawned* -> linked -> told what to do -> gone."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from prometheus_client import Metric

from cascade.errors import CascadeError, UnavailableError
from cascade.serve.config import Config, Setup
from cascade.serve.link import Link, Method
from cascade.serve.used import Book

START_S = 60.0  # an interpreter and its imports on a busy machine
LOAD_S = 600.0  # a large model from a slow disk
ANSWER_S = 10.0  # whatever needs no loading
END_S = 5.0  # from the end of a drain to that of the process


class WorkerProcess:
    """A worker process; a :class:`~cascade.serve.participant.Participant`.

    Attributes:
        number: its place among the workers.
        metrics: what it has counted, when it was asked last.
    """

    def __init__(self, number: int, process: asyncio.subprocess.Process, link: Link) -> None:
        self.number = number
        self.metrics: list[Metric] = []
        self._process, self._link = process, link

    @classmethod
    async def spawn(cls, number: int, config: Config, book: Book, methods: Mapping[str, Method]) -> WorkerProcess:
        """Starts a process, in a session of its own: Ctrl-C is its supervisor's business.

        Raises:
            CascadeError: it does not start.
        """
        try:
            own, its = socket.socketpair()
        except OSError as error:
            raise _not_started(error) from error
        with its:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "cascade.serve.worker",
                    str(its.fileno()),
                    str(book.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr,  # stdout is for the ready line
                    pass_fds=(its.fileno(), book.fileno()),
                    start_new_session=True,
                )
            except OSError as error:
                own.close()
                raise _not_started(error) from error
        worker = cls(number, process, Link(own, methods))
        await worker._link.open()
        try:
            await worker._call("start", config, number, timeout_s=START_S)
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def prepare(self, setup: Setup) -> Mapping[str, str]:
        """See :class:`~cascade.serve.participant.Participant`."""
        fingerprints: Mapping[str, str] = await self._call("prepare", setup, timeout_s=LOAD_S)
        return fingerprints

    async def commit(self) -> None:
        """See :class:`~cascade.serve.participant.Participant`. A worker that cannot is killed: it must not go on."""
        await self._call_or_kill("commit")

    async def discard(self) -> None:
        """See :class:`~cascade.serve.participant.Participant`."""
        await self._call_or_kill("discard")

    async def settled(self) -> None:
        """See :class:`~cascade.serve.participant.Participant`. A worker that is gone has settled."""
        try:
            await self._call("settled", timeout_s=None)
        except UnavailableError:
            return

    async def stage2_moved(self, address: str) -> None:
        """See :class:`~cascade.serve.participant.Participant`."""
        await self._call_or_kill("stage2_moved", address)

    async def open(self, port: int, http_port: int | None) -> dict[str, str]:
        """Has it answer on the shared ports; returns its models by stage.

        Raises:
            CascadeError: it cannot.
        """
        models: dict[str, str] = await self._call("open", port, http_port)
        return models

    async def scrape(self) -> None:
        """Asks what it has counted; a worker that is busy dying has counted what it said last.

        Raises:
            UnavailableError: it does not answer.
        """
        self.metrics = await self._call("scrape")

    async def ping(self) -> None:
        """Returns if its event loop runs.

        Raises:
            UnavailableError: it does not answer.
        """
        await self._call("ping", timeout_s=START_S)

    async def quiet(self) -> None:
        """Its health says from now on that nothing is served."""
        await self._call_or_kill("quiet")

    async def drain(self, seconds: float) -> None:
        """Has it end: its calls under way have this long. It is killed if it has not ended then."""
        try:
            self.metrics = await self._call("drain", seconds, timeout_s=seconds + END_S)
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except (CascadeError, TimeoutError):
            await self.kill()

    async def ended(self) -> int:
        """Waits for its end; returns the exit code."""
        return await self._process.wait()

    async def kill(self) -> None:
        """Ends it at once."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._link.close()

    async def _call(self, method: str, *arguments: Any, timeout_s: float | None = ANSWER_S) -> Any:
        return await self._link.call(method, *arguments, timeout_s=timeout_s)

    async def _call_or_kill(self, method: str, *arguments: Any) -> None:
        try:
            await self._call(method, *arguments)
        except CascadeError:  # gone, hung, or unable to: the next one starts with what holds now
            await self.kill()


def _not_started(error: OSError) -> CascadeError:
    return CascadeError(f"a worker cannot be started: {error.strerror or error}")
