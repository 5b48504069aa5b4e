"""The pipeline that answers now, and how another one takes its place while calls go on: *prepare* -> *commit*.

A call holds the pipeline that it began with until it ends, so that it never sees two. What was replaced is closed when
the last call that holds it has ended, but for the stages that the newer pipelines go on with: a policy's change leaves
the models as they are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cascade.batching import Batcher
from cascade.errors import OverloadedError
from cascade.pipeline import Pipeline
from cascade.v1.check_pb2 import CheckOptions, CheckRequest

WARM_UP = "Is the kettle still on?"
TRIES = 20  # of a warm-up while the queue is full


class Live:
    """Holds the pipeline that answers. Lives on one event loop."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._current = pipeline
        self._held: Counter[Pipeline] = Counter()
        self._closing: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def pipeline(self) -> Pipeline:
        """The current one, for a look. Who awaits anything of it uses :meth:`hold`."""
        return self._current

    @contextmanager
    def hold(self) -> Iterator[Pipeline]:
        """The current pipeline, which stays open until the body ends, whatever is committed in the meantime."""
        pipeline = self._current
        self._held[pipeline] += 1
        try:
            yield pipeline
        finally:
            self._held[pipeline] -= 1
            if not self._held[pipeline]:
                del self._held[pipeline]
                if pipeline is not self._current:
                    self._retire(pipeline)

    def commit(self, candidate: Pipeline) -> None:
        """From now on calls get this pipeline, which :func:`prepare` has returned."""
        before, self._current = self._current, candidate
        if before is candidate:
            return
        self._settled.clear()
        if before not in self._held:
            self._retire(before)

    async def discard(self, candidate: Pipeline) -> None:
        """Closes a pipeline that is not to be committed."""
        await candidate.close(but=self._stages_but(candidate))

    async def settled(self) -> None:
        """Returns when everything that was replaced is closed."""
        await self._settled.wait()

    async def close(self) -> None:
        """Closes everything."""
        await asyncio.gather(self._current.close(), *(pipeline.close() for pipeline in self._held), *self._closing)

    def _retire(self, pipeline: Pipeline) -> None:
        task = asyncio.get_running_loop().create_task(pipeline.close(but=self._stages_but(pipeline)))
        self._closing.add(task)
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not self._closing and self._held.keys() <= {self._current}:
            self._settled.set()
        task.result()

    def _stages_but(self, pipeline: Pipeline) -> set[Batcher]:
        """The stages of all pipelines that are in use, this one aside."""
        others = {self._current, *self._held} - {pipeline}
        return {batcher for other in others for batcher in other.stages.values()}


async def prepare(make: Callable[[], Pipeline], live: Live | None = None) -> Pipeline:
    """Makes a pipeline on a thread, and returns it once it has answered a warm-up on its new stages and as a whole.

    Args:
        make: what loads it.
        live: what answers now; the stages that it has in common with the new pipeline are warm already.

    Raises:
        CascadeError: whatever ``make`` and the warm-up raise; then what was loaded is closed again.
    """
    pipeline = await asyncio.to_thread(make)
    warm = set(live.pipeline.stages.values()) if live else set()
    try:
        for batcher in pipeline.stages.values():
            if batcher not in warm:
                await batcher.score(batcher.stage.encode(WARM_UP).windows)
        await _answer(pipeline)
    except BaseException:
        await (live.discard(pipeline) if live else pipeline.close())
        raise
    return pipeline


async def _answer(pipeline: Pipeline) -> None:
    """Asks for a verdict; a server that is overloaded has to wait for it as others do."""
    request = CheckRequest(text=WARM_UP, options=CheckOptions(bypass_cache=True))  # a kept answer would prove nothing
    for _ in range(TRIES):
        try:
            await pipeline.check(request)
        except OverloadedError as error:
            await asyncio.sleep(error.retry_after_s)
        else:
            return
    await pipeline.check(request)
