"""A server of several processes: reserve the port -> start workers -> *keep them running* -> drain them one by one.

The supervisor answers no client. It owns what there must be one of: the revisions and the process of stage 2 (by its
:class:`~cascade.serve.coordinator.Coordinator`), the book of quotas, the audit log, and the metrics endpoint. A worker
that ends is started again, after a wait that doubles each time that it does not live long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as NoAnswer
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from cascade.errors import CascadeError, UnavailableError
from cascade.observe import metrics
from cascade.observe.merged import Merged, counted
from cascade.serve.audit import AuditFile
from cascade.serve.config import Config
from cascade.serve.coordinator import Coordinator
from cascade.serve.crew import WorkerProcess
from cascade.serve.link import Method
from cascade.serve.port import reserved
from cascade.serve.server import run_until, stop_on_signal
from cascade.serve.used import Book

BACKOFF_S = (0.5, 30.0)  # the first wait before a worker is started again, and the longest
STABLE_S = 60.0  # a worker that lived as long has shown that it can
PING_S = 10.0
SCRAPE_S = 15.0

log = logging.getLogger(__name__)


async def supervise(config: Config, announce: Callable[[str], None]) -> None:
    """Serves from ``config.workers`` processes until SIGTERM or SIGINT, then drains them. See :func:`server.serve`.

    Raises:
        CascadeError: an address cannot be used, or a model or the policy.
    """
    started, endpoint = perf_counter(), config.endpoint
    stop = stop_on_signal()
    async with AsyncExitStack() as stack:
        audit_log = config.security.open_audit_log()
        if audit_log:
            stack.push_async_callback(asyncio.to_thread, audit_log.close)
            config.security.auditor(audit_log, CollectorRegistry())  # makes the salt, for the workers to read
        port = stack.enter_context(reserved(endpoint.host, endpoint.port))
        ready = f"ready grpc={endpoint.address(port)}"
        http_port = endpoint.http_port
        if http_port is not None:
            http_port = stack.enter_context(reserved(endpoint.host, http_port, option="--http-port"))
        registry = CollectorRegistry()
        coordinator = Coordinator(config, registry)
        stack.push_async_callback(coordinator.close)
        crew = Crew(config, coordinator, (port, http_port), audit_log, registry)
        stack.push_async_callback(crew.kill)
        if http_port is not None:
            ready += f" http={endpoint.address(http_port)}"
        if endpoint.metrics_port is not None:
            metrics_port, stop_metrics = metrics.serve(registry, endpoint.metrics_host, endpoint.metrics_port)
            stack.push_async_callback(asyncio.to_thread, stop_metrics)
            ready += f" metrics={endpoint.metrics_address(metrics_port)}"
        log.info("loading", extra={"grpc": endpoint.address(port), "workers": config.workers})
        await crew.start()
        if stop.is_set():
            return
        names = await crew.open()
        announce(f"{ready} stage1={names['stage1']} stage2={names.get('stage2', 'none')}")
        log.info("ready", extra={"seconds": round(perf_counter() - started, 3), **names})
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(crew.keep(number)) for number in range(config.workers)]
            await run_until(stop, coordinator)
            for task in keeping:
                task.cancel()
        await crew.drain(endpoint.drain_s)


class Crew:
    """The workers, by number."""

    def __init__(
        self,
        config: Config,
        coordinator: Coordinator,
        ports: tuple[int, int | None],
        audit_log: AuditFile | None,
        registry: CollectorRegistry,
    ) -> None:
        self._config, self._coordinator, self._ports = config, coordinator, ports
        self._book = Book()
        self._workers: dict[int, WorkerProcess] = {}
        self._loop = asyncio.get_running_loop()
        self._registry = registry
        self._counts = _Counts(registry, self)
        self._methods: dict[str, Method] = {
            "update_policy": coordinator.update_policy,
            "roll_back_policy": coordinator.roll_back_policy,
            "history": coordinator.history,
            "reload": coordinator.reload,
            "stage2_hangs": self._stage2_hangs,
            "scrape": self._scrape_all,
        }
        if audit_log:
            self._methods["audit"] = audit_log.write

    @property
    def workers(self) -> Mapping[int, WorkerProcess]:
        """Those that run."""
        return self._workers

    async def start(self) -> None:
        """Starts all workers, and loads what they need.

        Raises:
            CascadeError: something cannot be used.
        """
        await asyncio.gather(*(self._spawn(number) for number in range(self._config.workers)))
        self._coordinator.participants.extend(self._workers.values())
        await self._coordinator.start()

    async def open(self) -> dict[str, str]:
        """Has all workers answer; returns their models by stage."""
        names, *_ = await asyncio.gather(*(worker.open(*self._ports) for worker in self._workers.values()))
        self._coordinator.follow_stage2()
        return names

    async def keep(self, number: int) -> None:
        """Watches over one worker, and starts it again each time that it ends."""
        wait_s, since = BACKOFF_S[0], self._loop.time()
        while True:
            worker = self._workers.get(number)
            if worker:
                code = await self._watch(worker)
                lived = self._loop.time() - since
                log.error("a worker ended", extra={"worker": number, "pid": worker.pid, "exit_code": code})
                self._forget(worker)
                await worker.kill()
                if lived > STABLE_S:
                    wait_s = BACKOFF_S[0]
            await asyncio.sleep(wait_s)
            wait_s, since = min(2 * wait_s, BACKOFF_S[1]), self._loop.time()
            self._counts.restarts.inc()
            try:
                await self._again(number)
            except CascadeError as error:
                fields = {"worker": number, "reason": error.reason, "error": str(error)}
                log.error("a worker could not be started again", extra=fields)

    async def drain(self, seconds: float) -> None:
        """Ends the workers one by one, so that the others still answer; all of them within ``seconds``.

        The next one begins when the one before has ended, or when it has had its share of half the time: so each has
        at least the other half for its calls under way.
        """
        log.info("draining", extra={"workers": len(self._workers), "drain_s": seconds})
        deadline = self._loop.time() + seconds
        await asyncio.gather(*(worker.quiet() for worker in self._workers.values()))
        share = seconds / 2 / max(1, len(self._workers))
        tasks = []
        for worker in list(self._workers.values()):
            left = max(0.0, deadline - self._loop.time())
            tasks.append(asyncio.create_task(worker.drain(left)))
            await asyncio.wait(tasks[-1:], timeout=min(share, left))
        await asyncio.gather(*tasks)
        self._workers.clear()
        log.info("stopped")

    async def kill(self) -> None:
        """Ends what is left of them."""
        await asyncio.gather(*(worker.kill() for worker in self._workers.values()))

    async def scrape(self) -> tuple[Mapping[str, Sequence[Metric]], Sequence[Metric]]:
        """What the workers have counted, and those that are no more."""
        workers = list(self._workers.values())
        await asyncio.gather(*(worker.scrape() for worker in workers), return_exceptions=True)
        return {str(worker.number): worker.metrics for worker in workers}, self._counts.dead

    async def _scrape_all(self) -> list[Metric]:
        """What the metrics endpoint tells, for a worker that is asked for it. On a thread, which waits for the loop."""
        return await asyncio.to_thread(lambda: list(self._registry.collect()))

    async def _spawn(self, number: int) -> WorkerProcess:
        worker = await WorkerProcess.spawn(number, self._config, self._book, self._methods)
        self._workers[number] = worker
        return worker

    async def _again(self, number: int) -> None:
        worker = await self._spawn(number)
        try:
            await self._coordinator.join(worker)
            await worker.open(*self._ports)
        except BaseException:
            self._forget(worker)
            await worker.kill()
            raise
        log.info("a worker is back", extra={"worker": number, "pid": worker.pid})

    def _forget(self, worker: WorkerProcess) -> None:
        del self._workers[worker.number]
        if worker in self._coordinator.participants:
            self._coordinator.participants.remove(worker)
        self._counts.dead = counted(self._counts.dead, worker.metrics)

    async def _watch(self, worker: WorkerProcess) -> int:
        """Waits for a worker's end, which comes at once for one that hangs."""
        ended = asyncio.create_task(worker.ended())
        try:
            while not (await asyncio.wait([ended], timeout=PING_S))[0]:
                try:
                    await worker.ping()
                except UnavailableError:
                    log.error("a worker hangs", extra={"worker": worker.number, "pid": worker.pid})
                    await worker.kill()
            return ended.result()
        finally:
            ended.cancel()

    async def _stage2_hangs(self, address: str) -> None:
        self._coordinator.stage2_hangs(address)


@dataclass
class _Counts:
    """What the supervisor counts itself, and what workers have left behind."""

    registry: CollectorRegistry
    crew: Crew
    dead: list[Metric] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)
        PlatformCollector(registry=self._own)
        self.restarts = Counter("cascade_worker_restarts", "Workers started again.", registry=self.registry)
        Gauge("cascade_workers", "Workers that run.", registry=self.registry).set_function(
            lambda: len(self.crew.workers)
        )
        self.registry.register(Merged(self._collect))

    def _collect(self) -> tuple[Mapping[str, Sequence[Metric]], Sequence[Metric]]:
        """On a thread of the metrics endpoint."""
        own = {"supervisor": list(self._own.collect())}
        try:
            living, dead = asyncio.run_coroutine_threadsafe(self.crew.scrape(), self._loop).result(SCRAPE_S)
        except NoAnswer:
            return own, self.dead
        return own | dict(living), dead
