"""A server whose models are fakes, slow or broken on request: for what cannot be seen on a healthy one."""

import argparse
import asyncio
import time

from cascade.batching import Batcher
from cascade.limits import Limits
from cascade.observe import logs
from cascade.observe.metrics import Metrics
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore
from cascade.serve.endpoint import Endpoint
from cascade.serve.server import serve
from tests.fakes import FakeStage, fake_policy

parser = argparse.ArgumentParser()
parser.add_argument("--delay", type=float, default=0.0, help="seconds that each batch of stage 1 takes, once ready")
parser.add_argument("--load-s", type=float, default=0.0, help="seconds that loading takes")
parser.add_argument("--drain-s", type=float, default=10.0)
parser.add_argument("--max-queue", type=int, default=1000)
parser.add_argument("--bug", default="", help="an exception with this message comes out of every check but the warm-up")
parser.add_argument("--broken", type=int, default=0, help="1: stage 2 fails always")
parser.add_argument("--alone", type=int, default=0, help="1: no stage 2")
options = parser.parse_args()


model = FakeStage("tinysafe")


def fail(windows):
    return RuntimeError("out of order") if options.broken else None


def load():
    limits = Limits(max_queued_windows=options.max_queue)
    time.sleep(options.load_s)
    stage1 = Batcher(model, max_queued_windows=options.max_queue)
    stage2 = None if options.alone else Batcher(FakeStage("hazard", fail=fail), max_queued_windows=options.max_queue)
    pipeline = Pipeline(stage1, stage2, PolicyStore([fake_policy()]), limits)
    if options.bug:
        judge, answered = pipeline.check, []

        async def check(request, *, deadline=None):
            answered.append(request)
            if len(answered) > 1:
                raise ValueError(options.bug)
            return await judge(request, deadline=deadline)

        pipeline.check = check
    return pipeline


def announce(line):
    model.delay_s = options.delay
    print(line, flush=True)


logs.configure("debug")
endpoint = Endpoint("127.0.0.1", 0, 0, options.drain_s)
asyncio.run(serve(endpoint, load, Metrics(), announce))
