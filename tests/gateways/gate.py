"""A stage's batches wait while a gate is shut: what a test has to see meanwhile depends on no clock."""

import threading

BUSY_S = 110  # a machine that does other things


class Gate:
    """What a :class:`tests.fakes.FakeStage` has as ``fail``; it is open at first."""

    def __init__(self):
        self._open = threading.Event()
        self._open.set()

    def shut(self):
        self._open.clear()

    def open(self):
        self._open.set()

    def __call__(self, windows):
        return None if self._open.wait(BUSY_S) else TimeoutError("nobody opened the gate")
