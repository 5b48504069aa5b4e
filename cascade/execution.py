"""What a thread does with a batch: *windows of several requests* -> stage -> scores or an error for each request."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import isfinite

import numpy as np

from cascade import errors
from stages.stage import Stage, Window, WindowScores

Result = list[WindowScores] | errors.CascadeError
# How much a scoring thread gives way, as `nice` counts, so that calls are read, answered and refused while every core
# scores: without it an overloaded server on one core took more than a second to refuse a call (docs/LOG.md).
NICENESS = 10


@dataclass(frozen=True, slots=True)
class Ran:
    """Scores or an error for each request, and when that was, in ``time.perf_counter`` seconds.

    ``cpu`` are the seconds that the thread itself computed: none of other threads, other processes or a GPU.
    """

    results: list[Result]
    started: float
    ended: float
    cpu: float = 0.0

    @property
    def failed(self) -> bool:
        """The stage is at fault, and no request got anything out of it."""
        return all(isinstance(result, errors.StageError) for result in self.results)


def give_way() -> None:
    """Lets the event loop's thread go first where it shares a core with this one; on Linux only."""
    if sys.platform == "linux":  # where a priority is a thread's own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


def run(stage: Stage, batch: Sequence[Sequence[Window]]) -> Ran:
    """Scores a batch, or, if that fails, each request's windows by themselves: its trouble stays its own.

    A stage that cannot be reached is not asked again for each of them.
    """
    started, cpu = time.perf_counter(), time.thread_time()
    results: list[Result]
    try:
        scores = iter(_score(stage, list(chain.from_iterable(batch))))
        results = [_checked(stage, list(islice(scores, len(windows)))) for windows in batch]
    except errors.StageUnavailableError as error:
        results = [error] * len(batch)
    except Exception as error:  # noqa: BLE001 - whatever a stage raises must reach those who wait for it
        alone = len(batch) == 1
        results = [stage_error(stage, error)] if alone else [run(stage, [windows]).results[0] for windows in batch]
    return Ran(results, started, time.perf_counter(), time.thread_time() - cpu)


def stage_error(stage: Stage, error: BaseException) -> errors.CascadeError:
    """The error itself if it is Cascade's own, else a StageError that it caused."""
    if isinstance(error, errors.CascadeError):
        return error
    wrapped = errors.StageError(f"{stage.info.name} failed: {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped


def _score(stage: Stage, windows: list[Window]) -> list[WindowScores]:
    scores = stage.score(windows)
    if len(scores) != len(windows):
        raise errors.StageError(
            f"{stage.info.name} gave {len(scores)} scores for {len(windows)} windows. This is a bug."
        )
    return scores


def _checked(stage: Stage, scores: list[WindowScores]) -> Result:
    """The scores if they are numbers: a NaN compares as below every threshold, and so would pass as safe."""
    if all(isfinite(score.unsafe) and np.isfinite(score.labels).all() for score in scores):
        return scores
    return errors.StageError(f"{stage.info.name} gave scores that are not finite")
