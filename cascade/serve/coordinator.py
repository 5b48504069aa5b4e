"""Changes what a server runs: *policy, models* -> prepared by every process -> written down -> switched to by all.

If one process cannot prepare, or the revision cannot be written down, no process switches, and everything goes on as
before. One change is under way at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from cascade.errors import CascadeError, ModelError, PolicyError, UnavailableError
from cascade.policy import Policy, parse
from cascade.policy.ledger import History, Ledger, LedgerFolder
from cascade.serve.config import Config, Setup
from cascade.serve.model_history import record
from cascade.serve.participant import Participant
from cascade.serve.sources import BUILT_IN
from cascade.serve.stage_host import StageHost

POLL_S = 1.0  # between two looks at the files

log = logging.getLogger(__name__)


class Control(Protocol):
    """What PolicyService and ModelService ask for, whichever process answers to them."""

    async def update_policy(self, toml: str, expected_revision: str) -> Policy:
        """Applies a policy.

        Raises:
            CascadeError: it is invalid, does not fit the models, or is not for the expected revision.
        """

    async def roll_back_policy(self, name: str, revision: str, expected_revision: str) -> Policy:
        """Applies an earlier revision again.

        Raises:
            CascadeError: there is no such revision, it does not fit the models, or another one was expected.
        """

    async def history(self, name: str) -> History:
        """The revisions of a policy.

        Raises:
            NotFoundError: there is no such policy.
        """

    async def reload(self) -> bool:
        """Applies what has changed on disk; False if nothing has.

        Raises:
            CascadeError: it cannot be used.
        """


class Coordinator:
    """Owns the revisions and the process of stage 2, and leads the processes that answer from setup to setup.

    Raises:
        CascadeError: the state folder cannot be used.
    """

    def __init__(self, config: Config, registry: CollectorRegistry) -> None:
        self.participants: list[Participant] = []
        self._sources, self._hosted, self._watch = config.sources, config.hosted, config.watch
        self._state = config.state_dir
        self._folder = LedgerFolder(config.state_dir) if config.state_dir else None
        self._ledger = Ledger()
        self._setup: Setup | None = None
        self._found: Mapping[str, str] = {}
        self._seen: tuple[str, ...] = ()
        self._host: StageHost | None = None
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._reloads = Counter(
            "cascade_reloads", "Changes of policy or models while serving.", ["what", "outcome"], registry=registry
        )
        self._current = Gauge(
            "cascade_policy_info", "1 for the revisions that are applied.", ["policy", "revision"], registry=registry
        )

    async def start(self) -> None:
        """Loads the first setup.

        Raises:
            CascadeError: it cannot be used.
        """
        self._seen = await asyncio.to_thread(self._sources.look)
        kept = await asyncio.to_thread(self._folder.read) if self._folder else Ledger()
        policy, source = await asyncio.to_thread(self._sources.read_policy)
        # The file counts if it was edited since it was last read; what was pushed over the built-in policy stays.
        pushed = source.startswith(BUILT_IN) and kept.pushed
        ledger = kept if kept.source == source or pushed else kept.applied(policy, source=source)
        async with self._lock:
            await self._switch(ledger, await asyncio.to_thread(self._sources.stamps))

    async def join(self, participant: Participant) -> None:
        """Brings another process to where the others are; from then on it takes part in changes.

        Raises:
            CascadeError: it cannot be brought there.
        """
        async with self._lock:
            assert self._setup is not None, "start() comes first"
            setup = self._setup
            if self._host:
                setup = replace(setup, stage2_address=self._host.address)
            if await participant.prepare(setup) != self._found:
                raise ModelError("the files of a model are not those that the other processes have loaded: reload them")
            await participant.commit()
            self.participants.append(participant)

    async def update_policy(self, toml: str, expected_revision: str) -> Policy:
        """See :class:`Control`."""
        async with self._lock, self._counted("policy", asked=True):
            policy = await asyncio.to_thread(parse, toml)
            await self._apply(policy, expected_revision)
        return policy

    async def roll_back_policy(self, name: str, revision: str, expected_revision: str) -> Policy:
        """See :class:`Control`."""
        async with self._lock, self._counted("policy", asked=True):
            policy = self._ledger.history(name).find(revision)
            await self._apply(policy, expected_revision)
        return policy

    async def history(self, name: str) -> History:
        """See :class:`Control`."""
        return self._ledger.history(name)

    async def reload(self) -> bool:
        """See :class:`Control`."""
        async with self._lock:
            assert self._setup is not None, "start() comes first"
            stamps = await asyncio.to_thread(self._sources.stamps)
            async with self._counted("policy" if stamps == self._setup.stamps else "models"):
                ledger = self._ledger
                if self._sources.policy is not None:
                    policy, source = await asyncio.to_thread(self._sources.read_policy)
                    ledger = ledger if source == ledger.source else ledger.applied(policy, source=source)
                changed = stamps != self._setup.stamps or ledger is not self._ledger
                if changed:
                    await self._switch(ledger, stamps)
                    self._seen = ()  # the files may be changed back before the watch has had a look
                return changed

    async def watch(self) -> None:
        """Applies what changes on disk, for ever. A change counts once it has rested from one look to the next.

        Looks are cheap, and unlike notifications they see network file systems and turned links, too.
        """
        before = self._seen
        while self._watch:
            await asyncio.sleep(POLL_S)
            try:
                now = await asyncio.to_thread(self._sources.look)
            except OSError as error:
                log.warning("cannot look for changes", extra={"error": error.strerror})
                continue
            if now == before and now != self._seen and await self.try_reload("file"):
                self._seen = now
            before = now

    async def try_reload(self, why: str) -> bool:
        """Reloads for somebody who waits for no answer; False where the same may go better in a moment."""
        try:
            changed = await self.reload()
        except UnavailableError:
            return False
        except OSError as error:
            log.warning("cannot look for changes", extra={"error": error.strerror})
            return False
        except Exception:  # noqa: BLE001 - whatever it is, the server goes on; it is logged and counted
            return True
        log.info("reloaded" if changed else "nothing to reload", extra={"why": why})
        return True

    async def close(self) -> None:
        """Ends the process of stage 2, and gives the state folder free."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._host:
            await asyncio.to_thread(self._host.stop)
        if self._folder:
            self._folder.close()

    def stage2_hangs(self, address: str) -> None:
        """Stage 2's process at this address does not answer: it is started again."""
        if self._host and self._host.address == address:
            self._host.restart()

    def follow_stage2(self) -> None:
        """From now on the processes hear when stage 2's process goes away and comes back. Call it on the event loop."""
        loop = asyncio.get_running_loop()
        host = self._host
        if host is None:
            return

        def on_change(serving: bool) -> None:
            if not loop.is_closed():
                asyncio.run_coroutine_threadsafe(self._moved(host), loop)

        host.on_change = on_change
        if host.pid is None:  # it went away before anybody listened
            on_change(False)

    async def _moved(self, host: StageHost) -> None:
        if host is self._host:
            address = host.address if host.pid else ""
            await asyncio.gather(*(participant.stage2_moved(address) for participant in self.participants))

    async def _apply(self, policy: Policy, expected_revision: str) -> None:
        self._ledger.expect(policy.name, expected_revision)
        if policy.revision != expected_revision:
            await self._switch(self._ledger.applied(policy))

    async def _switch(self, ledger: Ledger, stamps: Mapping[str, str] | None = None) -> None:
        """Prepares on all, writes down, and commits on all."""
        before, host = self._setup, self._host
        if stamps is None:
            assert before is not None, "start() comes first"
            stamps = before.stamps
        if self._hosted and (before is None or stamps["stage2"] != before.stamps["stage2"]):
            host = StageHost(self._hosted)
        try:
            if host is not None and host is not self._host:
                await asyncio.to_thread(host.open)
            setup = Setup(tuple(policy.toml for policy in ledger.policies), stamps, host.address if host else "")
            self._found = await self._prepare(setup)
            if self._folder and ledger is not self._ledger:
                await asyncio.to_thread(self._folder.write, ledger)
        except BaseException:
            await asyncio.gather(*(participant.discard() for participant in self.participants), return_exceptions=True)
            if host is not None and host is not self._host:
                await asyncio.to_thread(host.stop)
            raise
        await asyncio.gather(*(participant.commit() for participant in self.participants))
        self._ledger, self._setup = ledger, setup
        leaving, self._host = self._host, host
        self._tell(ledger.policies)
        if before and stamps != before.stamps:
            self.follow_stage2()
            task = asyncio.create_task(self._leave(list(self.participants), None if leaving is host else leaving))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        if self._state and (before is None or stamps != before.stamps):
            await asyncio.to_thread(record, self._state, self._sources.models, self._found)

    async def _prepare(self, setup: Setup) -> Mapping[str, str]:
        """What each process has loaded, which must be the same."""
        if not self.participants:
            raise UnavailableError("no process is there to change")
        calls = [participant.prepare(setup) for participant in self.participants]
        results: list[Mapping[str, str]] = []
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        first, *others = results
        if any(other != first for other in others):
            raise ModelError("the files of a model changed while they were being loaded")
        return first

    async def _leave(self, participants: Sequence[Participant], host: StageHost | None) -> None:
        """Ends a replaced stage's process when no call needs it any more."""
        await asyncio.gather(*(participant.settled() for participant in participants), return_exceptions=True)
        if host:
            await asyncio.to_thread(host.stop)

    @asynccontextmanager
    async def _counted(self, what: str, *, asked: bool = False) -> AsyncIterator[None]:
        before = self._setup, self._ledger
        try:
            yield
        except Exception as error:
            foreseen = isinstance(error, CascadeError)
            problems = error.problems if isinstance(error, PolicyError) else [str(error)] if foreseen else []
            fields = {"what": what, "reason": getattr(error, "reason", CascadeError.reason), "problems": problems}
            trace = None if foreseen else error
            # A call's mistake is told to its caller; of a file's nobody hears but by the log.
            level = logging.ERROR if trace or not asked else logging.WARNING
            log.log(level, "change refused, everything goes on as before", extra=fields, exc_info=trace)
            self._reloads.labels(what, "refused").inc()
            raise
        if before != (self._setup, self._ledger):
            revisions = {policy.name: policy.revision for policy in self._ledger.policies}
            log.info("changed", extra={"what": what, "policies": revisions, "models": dict(self._found)})
            self._reloads.labels(what, "applied").inc()

    def _tell(self, policies: Sequence[Policy]) -> None:
        self._current.clear()
        for policy in policies:
            self._current.labels(policy.name, policy.revision).set(1)
