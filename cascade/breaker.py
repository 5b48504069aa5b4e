"""Whether a stage is asked at all: closed -> *failures in a row* -> open -> probe -> *answered* -> closed again.

While a breaker is open nobody waits for the stage: what asks for it fails at once, and the policy's ``on_error``
answers. The stage is asked again with a text of our own, at once and then at growing intervals, so that it comes back
without a restart and without a user's request to try it on; and if the failures were due to the texts and not to the
stage, it is back after that one probe. See Nygard, "Release It!" (2007), chapter 5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cascade.errors import BreakerOpenError

FAILURES = 5  # batches in a row that fail as a whole
PROBE_S = (0.5, 5.0)  # the first wait between two probes, and the longest

log = logging.getLogger(__name__)


class Breaker:
    """Opens after some batches in a row that failed, or at once when the stage gives no answer in time.

    Lives on one event loop.

    Attributes:
        is_open: the stage is not asked.
        listeners: by a name each: called with True when the stage is back and with False when it is away.
    """

    def __init__(self, model: str, probe: Callable[[], asyncio.Future[None] | None], failures: int = FAILURES) -> None:
        """Takes the model's name and what asks it something harmless, or gives None if that cannot be done now."""
        self.is_open = False
        self.listeners: dict[str, Callable[[bool], None]] = {}
        self._model = model
        self._probe = probe
        self._limit = failures
        self._failures = 0
        self._probes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def succeeded(self) -> None:
        """A batch was scored, at least in part."""
        self._failures = 0

    def failed(self, *, at_once: bool = False) -> bool:
        """A batch has failed as a whole; True if the breaker opens because of it."""
        self._failures += 1
        if self.is_open or not (at_once or self._failures >= self._limit):
            return False
        log.error("a stage is not asked until it has answered a probe", extra={"model": self._model})
        self._turn(is_open=True)
        self._probes = 0
        self._probe_later()
        return True

    def refusal(self) -> BreakerOpenError:
        """What whoever asks gets while it is open."""
        return BreakerOpenError(f"{self._model} has failed too often and is not asked now")

    def stop(self) -> None:
        """Asks nothing more."""
        self._stopped = True
        if self._timer:
            self._timer.cancel()

    def _probe_later(self) -> None:
        if not self._stopped:
            first, longest = PROBE_S
            wait_s = min(longest, first * 2.0 ** (self._probes - 1)) if self._probes else 0.0
            self._probes += 1
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._ask)

    def _ask(self) -> None:
        answer = self._probe()
        if answer is None:
            self._probe_later()
        else:
            answer.add_done_callback(self._hear)

    def _hear(self, answer: asyncio.Future[None]) -> None:
        if answer.exception() is not None:
            self._probe_later()
            return
        log.warning("a stage answers again", extra={"model": self._model})
        self._failures = 0
        self._turn(is_open=False)

    def _turn(self, *, is_open: bool) -> None:
        self.is_open = is_open
        for listener in self.listeners.values():
            listener(not is_open)
