"""A worker process: *link to the supervisor* -> load -> warm up -> listen on the shared port -> drain.

    python -m cascade.serve.worker LINK BOOK

:mod:`cascade.serve.supervisor` starts it with two file descriptors, one end of the link and the book of quotas, and
tells it what to do. It drains and ends by itself on SIGTERM, and when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric

from cascade.errors import AuditError, UnavailableError
from cascade.observe import logs
from cascade.observe.merged import registry_of
from cascade.observe.metrics import Metrics
from cascade.policy import Policy
from cascade.policy.ledger import History
from cascade.serve.config import Config
from cascade.serve.link import Link, Method
from cascade.serve.participant import LocalParticipant
from cascade.serve.server import Server, ignore
from cascade.serve.used import Book

SCRAPE_S = 15.0

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Serves until it is told to stop."""
    link, book = map(int, arguments)
    asyncio.run(_run(socket.socket(fileno=link), Book(book)))
    return 0


async def _run(end: socket.socket, book: Book) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_signal_handler(signal.SIGHUP, ignore)  # the supervisor's business
    worker = Worker(end, book)
    await worker.link.open()
    ends = [asyncio.create_task(event.wait()) for event in (told, worker.link.closed, worker.ended)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in ends:
        task.cancel()
    await worker.close()


class Worker:
    """What the supervisor calls, and what answers to clients."""

    def __init__(self, end: socket.socket, book: Book) -> None:
        self.ended = asyncio.Event()
        self._book = book
        self._methods: dict[str, Method] = {"start": self.start, "ping": self.ping}
        self.link = Link(end, self._methods)
        self._running: _Running | None = None

    async def ping(self) -> None:
        """Tells that the event loop runs."""

    async def start(self, config: Config, number: int) -> None:
        """Makes what needs no model; from then on the other methods can be called."""
        logs.configure(config.log_level, access=config.observe.access_log)
        _number_logs(number)
        self._running = running = _Running(config, self.link, self._book)
        participant = running.participant
        self._methods |= {
            "prepare": participant.prepare,
            "commit": participant.commit,
            "discard": participant.discard,
            "settled": participant.settled,
            "stage2_moved": participant.stage2_moved,
            "open": running.open,
            "scrape": running.scrape,
            "quiet": running.server.quiet,
            "drain": self.drain,
        }

    async def drain(self, seconds: float) -> list[Metric]:
        """Takes nothing new, gives the calls under way this long to end, and returns the last counts."""
        assert self._running is not None, "start() comes first"
        await self._running.drain(seconds)
        asyncio.get_running_loop().call_later(0.1, self.ended.set)  # when the supervisor has the answer
        return await self._running.scrape()

    async def close(self) -> None:
        """Drains, if that has not happened yet, and ends."""
        if self._running:
            await self._running.close()
        await self.link.close()


class _Running:
    """The parts of a worker that knows its configuration."""

    def __init__(self, config: Config, link: Link, book: Book) -> None:
        self._config, self._link = config, link
        self._metrics = Metrics()
        self._draining = False
        self._telling: set[asyncio.Task[None]] = set()
        self.server = Server(config, self._metrics, shared=True, book=book)
        self.participant = LocalParticipant(
            config.load, self.server.adopt, self.server.tell_stage2, self._tell_of_hanging
        )

    async def open(self, port: int, http_port: int | None) -> dict[str, str]:
        """Listens on the shared ports, answers from now on, and returns its models by stage.

        Raises:
            CascadeError: a port cannot be used.
        """
        self.server.bind(port)
        if http_port is not None:
            self.server.bind_http(http_port, shared=True)
        audit_log = RemoteAuditLog(self._link) if self._config.security.audit else None
        await self.server.open(self.participant.live, RemoteControl(self._link), audit_log, self._scrape_all)
        return self.server.models(self.participant.live)

    async def scrape(self) -> list[Metric]:
        """What was counted."""
        return list(self._metrics.registry.collect())

    async def _scrape_all(self) -> CollectorRegistry:
        """What all workers have counted."""
        return registry_of(await self._link.call("scrape", timeout_s=SCRAPE_S))

    async def drain(self, seconds: float) -> None:
        """Takes nothing new, and gives the calls under way this long to end."""
        self._draining = True
        await self.server.drain(seconds)

    async def close(self) -> None:
        """Ends everything. Without a supervisor, or on SIGTERM, calls under way have their time all the same."""
        if not self._draining:
            await self.drain(self._config.endpoint.drain_s)
        await self.server.close()
        await self.participant.close()

    def _tell_of_hanging(self, address: str) -> None:
        task = asyncio.get_running_loop().create_task(self._link.call("stage2_hangs", address))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)


@dataclass(frozen=True, slots=True)
class RemoteControl:
    """The :class:`~cascade.serve.coordinator.Control` of the supervisor."""

    link: Link

    async def update_policy(self, toml: str, expected_revision: str) -> Policy:
        """See :class:`~cascade.serve.coordinator.Control`."""
        policy: Policy = await self.link.call("update_policy", toml, expected_revision)
        return policy

    async def roll_back_policy(self, name: str, revision: str, expected_revision: str) -> Policy:
        """See :class:`~cascade.serve.coordinator.Control`."""
        policy: Policy = await self.link.call("roll_back_policy", name, revision, expected_revision)
        return policy

    async def history(self, name: str) -> History:
        """See :class:`~cascade.serve.coordinator.Control`."""
        history: History = await self.link.call("history", name)
        return history

    async def reload(self) -> bool:
        """See :class:`~cascade.serve.coordinator.Control`."""
        return bool(await self.link.call("reload"))


@dataclass(frozen=True, slots=True)
class RemoteAuditLog:
    """The audit log of the supervisor: a record is kept when the supervisor says so."""

    link: Link

    async def write(self, record: bytes) -> None:
        """See :class:`~cascade.serve.audit.AuditLog`."""
        try:
            await self.link.call("audit", record)
        except UnavailableError as error:
            raise AuditError("the supervisor, which keeps the audit log, is gone") from error


def _number_logs(number: int) -> None:
    """From now on each record of the log says which worker it is of."""
    make = logging.getLogRecordFactory()

    def numbered(*arguments: object, **options: object) -> logging.LogRecord:
        record = make(*arguments, **options)
        record.worker = number
        return record

    logging.setLogRecordFactory(numbered)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
