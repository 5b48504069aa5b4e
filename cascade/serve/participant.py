"""A process that answers, as those see it who change what it runs: *setup* -> prepare -> commit, or discard.

Nothing changes for any call before the commit, and the commit cannot fail: so several processes can prepare first and
switch only if each of them can.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from cascade.build import check_policies
from cascade.errors import CascadeError
from cascade.live import Live, prepare
from cascade.pipeline import Pipeline
from cascade.policy import Policy, PolicyStore, fingerprint, parse
from cascade.serve.config import Load, Setup
from stages.remote.client import RemoteStage

log = logging.getLogger(__name__)


class Participant(Protocol):
    """One process that answers."""

    async def prepare(self, setup: Setup) -> Mapping[str, str]:
        """Loads, validates and warms what a setup asks for, beside what is running; forgets an earlier candidate.

        Returns:
            The fingerprint of each stage's files.

        Raises:
            CascadeError: it cannot be done; everything goes on as before.
        """

    async def commit(self) -> None:
        """Runs from now on what was prepared."""

    async def discard(self) -> None:
        """Forgets what was prepared."""

    async def settled(self) -> None:
        """Returns when nothing of an earlier setup is in use any more."""

    async def stage2_moved(self, address: str) -> None:
        """Stage 2's process serves at this address from now on; it is gone if the address is empty."""


class LocalParticipant:
    """This process.

    Args:
        load: makes a pipeline.
        adopt: called with each pipeline before it becomes the current one.
        on_stage2: called with whether stage 2's process can be reached, when that changes.
        on_hang: called with the address of a process of stage 2 that does not answer.
    """

    def __init__(
        self,
        load: Load,
        adopt: Callable[[Pipeline], None],
        on_stage2: Callable[[bool], Awaitable[None]],
        on_hang: Callable[[str], None],
    ) -> None:
        self._load, self._adopt, self._on_stage2, self._on_hang = load, adopt, on_stage2, on_hang
        self._live: Live | None = None
        self._setup: Setup | None = None
        self._candidate: tuple[Setup, Pipeline] | None = None

    @property
    def live(self) -> Live:
        """What answers. There is none before the first commit."""
        assert self._live is not None, "commit() comes first"
        return self._live

    async def prepare(self, setup: Setup) -> Mapping[str, str]:
        """See :class:`Participant`."""
        await self.discard()
        policies = [parse(toml) for toml in setup.policies]
        pipeline = await prepare(partial(self._make, setup, policies), self._live)
        self._candidate = setup, pipeline
        return {name: fingerprint(batcher.stage.info.files) for name, batcher in pipeline.stages.items()}

    def _make(self, setup: Setup, policies: Sequence[Policy]) -> Pipeline:
        """Loads the stages whose files have changed. Blocks."""
        if self._live is None or self._setup is None:
            return self._load(policies=policies, keep={}, stage2_address=setup.stage2_address)
        before, stages = self._setup.stamps, self._live.pipeline.stages
        if setup.stamps == before:
            check_policies(policies, {name: batcher.stage for name, batcher in stages.items()})
            return self._live.pipeline.with_policies(PolicyStore(policies))
        keep = {name: batcher for name, batcher in stages.items() if setup.stamps[name] == before[name]}
        return self._load(policies=policies, keep=keep, stage2_address=setup.stage2_address)

    async def commit(self) -> None:
        """See :class:`Participant`."""
        assert self._candidate is not None, "prepare() comes first"
        (self._setup, pipeline), self._candidate = self._candidate, None
        before = self._live.pipeline.stages.get("stage2") if self._live else None
        loop = asyncio.get_running_loop()
        for batcher in pipeline.stages.values():
            if isinstance(batcher.stage, RemoteStage):
                batcher.stage.on_hang = lambda address: _call(loop, self._on_hang, address)
        self._adopt(pipeline)
        if self._live is None:
            self._live = Live(pipeline)
            freeze()
        else:
            self._live.commit(pipeline)
        stage2 = pipeline.stages.get("stage2")
        if before is not None and stage2 is not None and stage2 is not before:
            await self._on_stage2(True)  # it has just answered a warm-up, whatever was told of the one before

    async def discard(self) -> None:
        """See :class:`Participant`."""
        candidate, self._candidate = self._candidate, None
        if candidate:
            await (self._live.discard(candidate[1]) if self._live else candidate[1].close())

    async def settled(self) -> None:
        """See :class:`Participant`."""
        await self.live.settled()
        freeze()

    async def stage2_moved(self, address: str) -> None:
        """See :class:`Participant`."""
        stage = self.live.pipeline.stages["stage2"].stage
        assert isinstance(stage, RemoteStage), "only a stage in a process of its own moves"
        serving = bool(address)
        if address:
            try:
                await asyncio.to_thread(stage.reconnect, address)
            except CascadeError as error:
                log.error("stage 2 cannot be reached", extra={"reason": error.reason, "error": str(error)})
                serving = False
        await self._on_stage2(serving)

    async def close(self) -> None:
        """Closes everything."""
        await self.discard()
        if self._live:
            await self._live.close()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[str], None], address: str) -> None:
    """From another thread."""
    with suppress(RuntimeError):  # the loop was closed
        loop.call_soon_threadsafe(function, address)


def freeze() -> None:
    """What is loaded stays: the collector need not walk it again while calls wait."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
