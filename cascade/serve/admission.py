"""Whether a content is looked at at all: *size, caller, deadline* -> begun, or refused with a time to come back.

A refusal costs next to nothing, as nothing was read or cut into windows yet; so an overloaded server still works at its
full speed on what it has taken. What it takes it finishes soon, because its queues are kept short: at rest what goes
before a text of average length may grow to ``PATIENCE_S``, which absorbs chance, all there is to ``ALL`` times as much,
and the more was refused lately, the nearer both bounds are to the target itself. (In a simulation of one core, with
lengths as prompts have them, this loses fewer calls below capacity than any fixed bound with the same p99 above it, and
does not swing as CoDel does.)

Who asks for less than its fair share of the queue is taken while a flood is refused. Bulk work waits in a queue of its
own, behind the rest, and is refused only when that is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic

from cascade.backlog import Backlog
from cascade.batching import DOUBT, RETRY_AFTER_S, Batcher
from cascade.errors import DeadlineTooShortError, OverloadedError
from cascade.observe.metrics import Metrics
from cascade.serve.identity import Call
from cascade.serve.quotas import Quotas
from cascade.serve.used import Book

PATIENCE_S = 0.4  # the longest queue of a server that refuses nobody, in seconds of work
LEAST_PATIENCE = 4.0  # the same in multiples of the target, if that is more
ALL = 2.5  # times as much may wait where what is longer than average counts as well: it gives way to what is not
MEMORY = 0.02  # weight of the newest content in the share of the refused; less, where contents come faster than this:
MEMORY_S = 0.2  # the share is of so many seconds at least, so that the bounds do not swing on a fast machine
REPORT_S = 5.0  # between two lines of the log about refusals

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What a server takes at a time.

    Attributes:
        max_calls: contents under way; of them at most half in bulk.
        max_bytes: bytes of the requests under way.
        target_wait_s: how long contents should wait under the heaviest load; the time of one if that is more.
        rate: contents a second of one caller, unless its token says otherwise; None for no bound.
    """

    max_calls: int = 1024
    max_bytes: int = 64 * 2**20
    target_wait_s: float = 0.015
    rate: float | None = None


class Admission:
    """Takes contents or refuses them. Lives on one event loop."""

    def __init__(self, settings: AdmissionSettings, metrics: Metrics, book: Book | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._quotas = Quotas(settings.rate, book=book)
        self._calls = {False: 0, True: 0}
        self._bytes = 0
        self._bound = Bound(settings.target_wait_s)
        self._refused: Counter[str] = Counter()
        self._reported = -inf

    @contextmanager
    def admit(self, stages: Mapping[str, Batcher], size: int, call: Call, *, bulk: bool = False) -> Iterator[None]:
        """The body runs if the content is taken.

        Args:
            stages: what will be asked.
            size: bytes of the request.
            call: by whom and until when.
            bulk: as :meth:`Batcher.score`.

        Raises:
            OverloadedError: it is not: there is too much under way, or the caller has asked too often.
        """
        try:
            self._check(stages, size, call, bulk)
        except OverloadedError as error:
            self._count(error)
            raise
        self._calls[bulk] += 1
        self._bytes += size
        try:
            yield
        except OverloadedError as error:
            self._count(error)
            raise
        finally:
            self._calls[bulk] -= 1
            self._bytes -= size

    def _check(self, stages: Mapping[str, Batcher], size: int, call: Call, bulk: bool) -> None:
        if self._is_full(size, bulk):
            raise OverloadedError("too much is under way", RETRY_AFTER_S[0])
        backlogs = {name: batcher.backlog(call.caller, bulk=bulk) for name, batcher in stages.items()}
        if not bulk:
            backlog = self._bound.exceeded(backlogs.values(), monotonic())
            for batcher in stages.values():
                batcher.pressure = self._bound.refused
            if backlog:
                raise OverloadedError("too many texts wait to be scored", _retry_s(backlog))
        # Whether there will be time for stage 2, if it is wanted at all, is another question.
        first, now = backlogs.get("stage1"), asyncio.get_running_loop().time()
        if first and call.deadline is not None and DOUBT * first.ahead_s > call.deadline - now > 0:
            raise DeadlineTooShortError(_retry_s(first))
        self._quotas.take(call.caller, call.quota)

    def _is_full(self, size: int, bulk: bool) -> bool:
        calls = self._calls[True] if bulk else sum(self._calls.values())
        most = self._settings.max_calls // (2 if bulk else 1)
        return calls >= most or (self._bytes > 0 and self._bytes + size > self._settings.max_bytes)

    def _count(self, error: OverloadedError) -> None:
        """Counts a refusal; the log gets a line now and then, for one a call would cost more than the refusal."""
        self._metrics.refused.labels(error.reason).inc()
        self._refused[error.reason] += 1
        if monotonic() > self._reported + REPORT_S:
            log.warning("requests are refused", extra={"refused": dict(self._refused)})
            self._reported = monotonic()
            self._refused.clear()


class Bound:
    """How long the stages' queues may be, in seconds of work: the shorter, the more was refused lately.

    Args:
        target_s: the length under the heaviest load.

    Attributes:
        refused: the share of the latest contents for which a queue was too long.
    """

    def __init__(self, target_s: float) -> None:
        self._target_s = target_s
        self.refused = 0.0
        self._latest = -inf

    def exceeded(self, backlogs: Iterable[Backlog], now: float) -> Backlog | None:
        """The queue for which the next content of a caller has to come again later, if there is one.

        It takes what the stages have for that caller, and the time in seconds.
        """
        found = next(filter(self._is_too_long, backlogs), None)
        weight = min(MEMORY, (now - self._latest) / MEMORY_S)
        self.refused += weight * ((found is not None) - self.refused)
        self._latest = now
        return found

    def _is_too_long(self, backlog: Backlog) -> bool:
        target = max(self._target_s, backlog.request_s)
        most = max(PATIENCE_S, LEAST_PATIENCE * target)
        bound: float = most ** (1 - self.refused) * target**self.refused
        of_all = bound * ALL ** (1 - self.refused)
        excess = max(backlog.waiting_s / bound, backlog.all_s / of_all)
        if excess <= 1:
            return False
        return backlog.own_s > bound / backlog.callers or excess > 2


def _retry_s(backlog: Backlog) -> float:
    """When what waits now will have been scored, in seconds."""
    least, most = RETRY_AFTER_S
    return min(max(least, backlog.all_s + backlog.running_s), most)
