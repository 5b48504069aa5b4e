"""What a server of fakes loads, as data that can go to worker processes: models that are slow or broken on request."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cascade.batching import Batcher
from cascade.errors import ModelError
from cascade.limits import Limits
from cascade.live import WARM_UP
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore
from tests.fakes import FakeStage, word_id


@dataclass(frozen=True)
class FakeLoad:
    """Makes pipelines of fakes; the attributes are the options of fake_server.py.

    A model folder, if there is one, has ``model.json`` with ``revision`` and ``words``, which stage 1 takes. If it has
    ``refused_once``, one process cannot load it, and the others can.
    """

    delay: float = 0.0
    slow: float = 0.0
    load_s: float = 0.0
    held: str = ""
    max_queue: int = 1000
    bug: str = ""
    broken: int = 0
    alone: int = 0
    folder: str = ""

    def __call__(self, *, policies, keep, stage2_address):
        time.sleep(self.load_s)
        self.hold()
        stages = {"stage1": self.stage1} | ({} if self.alone else {"stage2": self.stage2})
        batchers = {
            name: keep.get(name) or Batcher(make(), max_queued_windows=self.max_queue) for name, make in stages.items()
        }
        first, second = batchers["stage1"], batchers.get("stage2")
        pipeline = Pipeline(first, second, PolicyStore(policies), Limits(max_queued_windows=self.max_queue))
        if self.bug:
            judge, answered = pipeline.check, []

            async def check(request, **options):
                answered.append(request)
                if len(answered) > 1:
                    raise ValueError(self.bug)
                return await judge(request, **options)

            pipeline.check = check
        return pipeline

    def stage1(self):
        if not self.folder:
            return FakeStage("tinysafe", fail=self.wait)
        model = json.loads(Path(self.folder, "model.json").read_text())
        if "refused_once" in model:
            try:
                Path(self.folder).with_suffix(".refused").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                raise ModelError("this process cannot load it")
        stage = FakeStage("tinysafe", words=model["words"], fail=self.wait)
        stage.info = replace(stage.info, revision=model["revision"], files={"model.json": model["revision"]})
        return stage

    def stage2(self):
        return FakeStage("hazard", fail=self.fail)

    def fail(self, windows):
        return RuntimeError("out of order") if self.broken else None

    def wait(self, windows):
        """Every batch but the warm-up takes a while."""
        warm_up = FakeStage("tinysafe").encode(WARM_UP).windows[0].ids
        if any(window.ids != warm_up for window in windows):
            time.sleep(self.delay)
        if any(word_id("slow") in window.ids for window in windows):
            time.sleep(self.slow)
            self.hold()

    def hold(self):
        """Waits while the file ``held`` is there."""
        while self.held and Path(self.held).exists():
            time.sleep(0.02)
