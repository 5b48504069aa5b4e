"""How a call of grpc.aio ended, by the server's word.

A message that is written in the moment in which the server ends a call fails, and grpc.aio then puts an INTERNAL of its
own in the place of the status that came (grpc/grpc#36066, in every release so far). So the first status is noted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc

from cascade_client.errors import CascadeError, from_ending

OWN_WORD = "Internal error from Core"
GRACE_S, STEP_S = 1.0, 0.01  # where the failure is noticed first, the status is on its way

Told = tuple[grpc.StatusCode, str | None, Any]


class Ending:
    """The first status of a call."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._told: Told | None = None
        call.add_done_callback(self._note)

    async def error(self) -> CascadeError | None:
        """What the call failed with; None if it did not. To be asked when it has ended."""
        told = self._told or _read(self._call)
        for _ in range(round(GRACE_S / STEP_S)):
            if told[:2] != (grpc.StatusCode.INTERNAL, OWN_WORD):
                break
            await asyncio.sleep(STEP_S)
            told = _read(self._call)
        return None if told[0] is grpc.StatusCode.OK else from_ending(*told)

    def _note(self, call: Any) -> None:
        if self._told is None:
            self._told = _read(call)


def _read(call: Any) -> Told:
    """The status of a call that has ended."""
    return _now(call.code()), _now(call.details()), _now(call.trailing_metadata())


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("the call has not ended")
