"""What a text costs a bare session; what processes of them do side by side; and the texts that all costs are of."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from typing import Any

from stages.registry import load_stage

# Each word is one token of stage 1. Of the first no text is escalated by the default policy, of the second every one.
CALM = (
    "how do I keep tomato plants alive in our old stone house please explain about water garden kettle table window "
    "letter friend winter summer train road school music river mountain book paper door green white blue"
)
FLAGGED = "kill people with a weapon and steal money from the bank then buy drugs or a bomb to hurt them"
SHARE = 0.3  # of the texts that are flagged; between ToxicChat's shares, see README.md
AROUND = 2  # special tokens of a text
WARM_UP = 5


def texts(count: int, tokens: int, share: float = SHARE) -> list[str]:
    """Texts of so many tokens of stage 1, each another one; the share that is escalated is spread among them."""
    chosen, calm, flagged = random.Random(tokens), CALM.split(), FLAGGED.split()
    return [
        " ".join(chosen.choices(flagged if int((index + 1) * share) > int(index * share) else calm, k=tokens - AROUND))
        for index in range(count)
    ]


def milliseconds(model: str, tokens: int, calls: int) -> float:
    """The median time that a model's session takes for all windows of a text that is escalated."""
    stage = load_stage(model)
    windows = [stage.encode(text).windows for text in texts(8, tokens, 1.0)]
    taken = []
    for turn, own in zip(range(WARM_UP + calls), cycle(windows), strict=False):
        before = time.perf_counter()
        for window in own:
            stage.score([window])
        if turn >= WARM_UP:
            taken.append(1000 * (time.perf_counter() - before))
    return statistics.median(taken)


def together(processes: int, seconds: float, tokens: int = 32) -> float:
    """Texts a second of so many processes that have nothing in common but the machine, in bare sessions."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(processes, spawn) as pool:
        start = manager.Barrier(processes, timeout=600)
        return sum(pool.map(_alone, *([each] * processes for each in (start, seconds, tokens))))


def _alone(start: Any, seconds: float, tokens: int) -> float:
    """Texts a second of this process, from when all of them are ready."""
    stages = [load_stage(name) for name in ("tinysafe", "hazard")]
    work = [
        [
            (stage, window)
            for stage in stages[: 1 + (text.split()[0] in FLAGGED.split())]
            for window in stage.encode(text).windows
        ]
        for text in texts(100, tokens)
    ]
    start.wait()
    begun, done = time.perf_counter(), 0
    for windows in cycle(work):
        for stage, window in windows:
            stage.score([window])
        done += 1
        if time.perf_counter() - begun >= seconds:
            break
    return done / (time.perf_counter() - begun)
